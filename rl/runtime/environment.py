"""Environment variables that Braid sets, and limits of the shell that it checks.

Variables of the engine are in `rollout.engines.vllm_compat`, those of a local cluster in
`rl.runtime.loopback`.

Driver (the user's own value wins):
    RAY_USAGE_STATS_ENABLED=0     Ray sends no usage statistics
    OMP_NUM_THREADS=1             as in the workers
Workers:
    OMP_NUM_THREADS=1             one core per process; parallelism is between processes
    TOKENIZERS_PARALLELISM=false  no thread pool in the tokenizers library after a fork
    HF_HUB_OFFLINE=1              no downloads at run time
    TRANSFORMERS_VERBOSITY, HF_HUB_DISABLE_PROGRESS_BARS, PYTHONWARNINGS    quiet logs
"""

import os
import resource

from data.errors import ConfigError

LEAST_ADDRESS_SPACE = 64 * 2**30
"""Bytes of virtual memory: several times what the largest process of a CPU run reserves."""
DRIVER_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYTHONWARNINGS": "ignore",
}


def set_driver_environment() -> None:
    """Set the driver's variables, before Ray, torch or transformers is imported: they read them once."""
    for name, value in DRIVER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def ensure_address_space() -> None:
    """Raises ConfigError when the shell limits virtual memory below what Ray and torch reserve."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_ADDRESS_SPACE:
        raise ConfigError(
            f"this shell limits virtual memory to {limit / 2**30:.1f} GiB (ulimit -v); Ray, torch and the "
            "engine reserve far more than they use\n  fix: `ulimit -v unlimited`"
        )
