"""Every environment variable that Braid sets (but for the engine's own: see `rollout.engines.vllm_compat`).

Driver (a value that the user has set stays):
    RAY_USAGE_STATS_ENABLED=0     Ray reports nothing home
    OMP_NUM_THREADS=1             as in the workers
Workers:
    OMP_NUM_THREADS=1             a process of ours uses one core; parallelism is between processes
    TOKENIZERS_PARALLELISM=false  no thread pool in the tokenizers library after a fork
    HF_HUB_OFFLINE=1              nothing is fetched at run time
    TRANSFORMERS_VERBOSITY, HF_HUB_DISABLE_PROGRESS_BARS, PYTHONWARNINGS    quiet logs
"""

import os

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
    """Before Ray, torch or transformers is imported: they read it once."""
    for name, value in DRIVER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
