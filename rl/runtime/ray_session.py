"""Ray: started here and nowhere else, with `rl.runtime.environment` and the packages pinned."""

import contextlib
import hashlib
import logging
import os
from pathlib import Path
from types import TracebackType
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
from data.stacks import LOGS, write_stacks_on_signal
from rl.runtime.environment import WORKER_ENVIRONMENT, set_driver_environment
from rl.runtime.loopback import LOOPBACK, loopback_only

_OBJECT_STORE_BYTES = 200 * 1024**2
_ANSWER_S = 60.0


def assert_packages() -> None:
    """Worker set-up hook: the four packages must be this project's.

    Ray puts the driver's working directory first on every worker's path, so a user's own `data/` would
    shadow ours; importing them before that also pins them.
    """
    root = os.environ["BRAID_ROOT"]
    for package in (data, rewards, rl, rollout):
        assert package.__file__ is not None
        found = str(Path(package.__file__).parent.parent)
        assert found == root, f"{package.__name__} comes from {found}, expected {root}"


class ClusterLost(BraidError, RuntimeError):
    """The local cluster has lost a process without which nothing goes on."""


def sources() -> tuple[str, str]:
    """-> (folder of the four packages, checksum of their sources). Runs on every node of a cluster."""
    assert data.__file__ is not None
    root, found = Path(data.__file__).parent.parent, hashlib.sha256()
    for package in ("data", "rewards", "rl", "rollout"):
        for path in sorted((root / package).rglob("*.py")):
            found.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return str(root), found.hexdigest()


def _ensure_same_code() -> None:
    """Raises ConfigError when a node has other sources than this one, or none, or has them elsewhere.

    Asked in a session before the run's own: there, workers die of it in `assert_packages`, without a word.
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
    """Raises ConfigError when the cluster does not let this process in, or a node has no such Braid."""
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
    """Start a cluster of this machine. -> the processes that it cannot do without."""
    # Ray gives its own cluster a token, without which nothing can join it, and warns that it did.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
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
    vital = [
        process
        for process in psutil.Process().children(recursive=True)
        if process.name() in ("raylet", "gcs_server")
    ]
    assert vital, "a local cluster has both"
    return vital


class Runtime:
    """A Ray session; a context manager. Starts a local cluster, or joins the one at `address`."""

    def __init__(self, run_dir: Path, *, address: str | None = None, num_cpus: int = 2) -> None:
        """`num_cpus`: processes that must find a place on a local cluster, however few cores there are."""
        self._run_dir = run_dir
        self._address = address
        self._num_cpus = num_cpus
        self._vital: list[psutil.Process] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        # See assert_packages: from here no folder of the user's can stand in for ours.
        os.chdir(self._run_dir)
        set_driver_environment()
        assert data.__file__ is not None
        logs = self._run_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        root = str(Path(data.__file__).parent.parent)
        variables = {**WORKER_ENVIRONMENT, "BRAID_ROOT": root, LOGS: str(logs)}
        write_stacks_on_signal(logs)
        environment = {
            "env_vars": variables,
            "worker_process_setup_hook": "rl.runtime.ray_session.assert_packages",
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
        for ever. A cluster that was joined sees to its own.
        """
        for process in self._vital:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return str(process.name())
        return None

    @property
    def session(self) -> str:
        """A string on the command line of every process of this session."""
        return str(ray.get_runtime_context().get_session_name())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            ray.shutdown()
