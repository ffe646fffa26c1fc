"""The Ray session of a command: a local cluster, or a joined one. Only this module starts Ray."""

import contextlib
import hashlib
import logging
import os
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

import psutil
import ray
from ray.exceptions import AuthenticationError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import data
import rewards
import rl
import rollout
from data.errors import BraidError, ConfigError
from data.extensions import VARIABLE, files_to_load, variable_of
from data.stacks import LOGS, write_stacks_on_signal
from rl.config.extensions import copies, load_extensions
from rl.runtime.environment import WORKER_ENVIRONMENT, ensure_address_space, set_driver_environment
from rl.runtime.loopback import LOOPBACK, loopback_only

PACKAGES = (data, rewards, rl, rollout)
_OBJECT_STORE_BYTES = 200 * 1024**2
STARTS = 3
"""Times that a local cluster is started before the run gives up."""
_ANSWER_S = 60.0
"""Longest wait for a node's checksum of its sources."""


def set_up_worker() -> None:
    """Worker set-up hook: the right packages, and the run's extensions before an object of theirs arrives."""
    assert_packages()
    load_extensions(files_to_load())


def assert_packages() -> None:
    """Assert that the four packages are this project's.

    Ray puts the driver's working directory first on every worker's path, where a user's own `data/` would
    shadow ours. The worker also imports the packages before anything else can.
    """
    for package in PACKAGES:
        found = _folder(package)
        expected = os.environ["BRAID_ROOT"]
        assert found == expected, f"{package.__name__} comes from {found}, expected {expected}"


def _folder(package: ModuleType) -> str:
    """The folder that holds a package."""
    assert package.__file__ is not None
    return str(Path(package.__file__).parent.parent)


class ClusterLost(BraidError, RuntimeError):
    """A vital process of the local cluster died."""


def sources() -> tuple[str, str]:
    """-> (folder of the four packages, SHA-256 of their sources). Runs on every node of a cluster."""
    root, found = Path(_folder(data)), hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package.__name__).rglob("*.py")):
            found.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return str(root), found.hexdigest()


def _ensure_same_code() -> None:
    """Raises ConfigError when a node has other sources than this one, has none, or has them elsewhere.

    Runs in a separate session before the run's, in which `assert_packages` would kill workers silently.
    """
    asked = {}
    for node in ray.nodes():
        if node["Alive"]:
            strategy = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
            task = ray.remote(sources).options(num_cpus=0, scheduling_strategy=strategy)
            asked[node["NodeManagerAddress"]] = task.remote()
    root, checksum = sources()
    for host, answer in asked.items():
        try:
            their_root, their_checksum = ray.get(answer, timeout=_ANSWER_S)
        except RayError as error:
            found = f"cannot import Braid ({str(error).strip().splitlines()[-1]})"
        else:
            if (their_root, their_checksum) == (root, checksum):
                continue
            found = f"has {'' if their_checksum == checksum else 'another version of '}Braid in {their_root}"
        raise ConfigError(
            f"{host}: this node of the cluster {found}; the one of this command is in {root}\n"
            "  fix: have the same version in the same place on every node, and start Ray there from its "
            "environment"
        )


def _join(address: str, environment: dict[str, Any]) -> None:
    """Join a cluster. Raises ConfigError when that fails, and when a node has another version of Braid."""
    options = {"address": address, "logging_level": logging.WARNING, "log_to_driver": False}
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, AuthenticationError) as error:
        raise ConfigError(
            f"--address {address}: the Ray cluster could not be joined ({error})\n"
            "  fix: run this on one of its nodes, with the same RAY_AUTH_MODE and RAY_AUTH_TOKEN, Python and "
            "Ray as there"
        ) from error
    try:
        _ensure_same_code()
    finally:
        ray.shutdown()
    ray.init(**options, runtime_env=environment)


def _start_local(environment: dict[str, Any], num_cpus: int) -> list[psutil.Process]:
    """Start a cluster on this machine. -> its vital processes."""
    # Ray gives its own cluster a token, without which nothing can join it, and warns that it did.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    before = set(psutil.Process().children(recursive=True))
    for attempt in range(1, STARTS + 1):
        try:
            ray.init(
                address="local",
                _node_ip_address=LOOPBACK,
                num_cpus=max(num_cpus, os.cpu_count() or 2),
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                runtime_env=environment,
                logging_level=logging.WARNING,
                log_to_driver=False,
            )
            break
        except Exception as error:
            # Ray waits 30 s for its processes, too short on a busy machine, and raises a bare Exception then.
            if type(error) is not Exception:
                raise
            ray.shutdown()
            _end(set(psutil.Process().children(recursive=True)) - before)
            if attempt == STARTS:
                raise BraidError(
                    f"Ray did not start ({error}); tried {STARTS} times\n"
                    "  fix: end other programs that keep the processors busy, and run the same command again"
                ) from error
    vital = [
        process
        for process in psutil.Process().children(recursive=True)
        if process.name() in ("raylet", "gcs_server")
    ]
    assert vital, "a local cluster has both"
    return vital


def _end(processes: set[psutil.Process]) -> None:
    """Kill what a failed start left behind, and wait until it is gone."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=10)


class Runtime:
    """A Ray session, as a context manager: a local cluster, or the one at `address`."""

    def __init__(self, run_dir: Path, *, address: str | None = None, num_cpus: int = 2) -> None:
        """num_cpus: processes that a local cluster must have room for, however few cores there are."""
        self._run_dir = run_dir
        self._address = address
        self._num_cpus = num_cpus
        self._vital: list[psutil.Process] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        # So that no folder of the user shadows one of our packages (see `assert_packages`).
        os.chdir(self._run_dir)
        ensure_address_space()
        set_driver_environment()
        logs = self._run_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        variables = {**WORKER_ENVIRONMENT, "BRAID_ROOT": _folder(data), LOGS: str(logs)}
        if found := copies(self._run_dir):
            variables[VARIABLE] = variable_of(found)
        write_stacks_on_signal(logs)
        environment = {
            "env_vars": variables,
            "worker_process_setup_hook": "rl.runtime.ray_session.set_up_worker",
        }
        with contextlib.ExitStack() as stack:
            if self._address is not None:
                _join(self._address, environment)
            else:
                stack.enter_context(loopback_only())
                self._vital = _start_local(environment, self._num_cpus)
            self._stack = stack.pop_all()
        return self

    @property
    def lost(self) -> str | None:
        """Name of a vital process of the local cluster that has ended, or None. Ray itself would wait for it
        forever. Processes of a joined cluster are not watched.
        """
        for process in self._vital:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return str(process.name())
        return None

    @property
    def session(self) -> str:
        """Name of the session, which is on the command line of each of its processes."""
        return str(ray.get_runtime_context().get_session_name())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            ray.shutdown()
