"""Ray: started here and nowhere else, with the environment of `rl.environment` and the packages pinned."""

import logging
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import ray

import data
import rewards
import rl
import rollout
from data.stacks import LOGS
from rl.environment import WORKER_ENVIRONMENT, set_driver_environment

_OBJECT_STORE_BYTES = 200 * 1024**2


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


class Runtime:
    """A Ray session; a context manager. Starts a local cluster, or joins the one at `address`."""

    def __init__(self, run_dir: Path, *, address: str | None = None, num_cpus: int = 2) -> None:
        """`num_cpus`: processes that must find a place on a local cluster, however few cores there are."""
        self._run_dir = run_dir
        self._address = address
        self._num_cpus = num_cpus

    def __enter__(self) -> Self:
        # See assert_packages: from here no folder of the user's can stand in for ours.
        os.chdir(self._run_dir)
        set_driver_environment()
        assert data.__file__ is not None
        logs = self._run_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        root = str(Path(data.__file__).parent.parent)
        variables = {**WORKER_ENVIRONMENT, "BRAID_ROOT": root, LOGS: str(logs)}
        environment = {"env_vars": variables, "worker_process_setup_hook": "rl.runtime.assert_packages"}
        if self._address is not None:
            ray.init(address=self._address, runtime_env=environment, logging_level=logging.WARNING)
        else:
            # Ray gives its own cluster a token, without which nothing can join it, and warns that it did.
            logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
            ray.init(
                address="local",
                _node_ip_address="127.0.0.1",
                num_cpus=max(self._num_cpus, os.cpu_count() or 2),
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                runtime_env=environment,
                logging_level=logging.WARNING,
                log_to_driver=False,
            )
        return self

    @property
    def session(self) -> str:
        """A string on the command line of every process of this session."""
        return str(ray.get_runtime_context().get_session_name())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ray.shutdown()
