"""A real Ray cluster of several nodes on this machine: a raylet each, with ports and a folder of its own.

Nodes are started by `scripts/slurm/node.sh`, as in a Slurm job. A cluster is a context manager: whatever
becomes of its test, every process of every node is ended by its id.

With `apart` a node has a network of its own (a pair of virtual interfaces, one end in a network namespace)
and a file system in which chosen folders and /dev/shm are empty: what it needs from the driver's node can
only reach it through Ray. That takes root, `ip`, `unshare` and `nsenter`; see `can_be_apart`.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

NODE_SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm" / "node.sh"
OBJECT_STORE = "--object-store-memory=200000000"
_START_SECONDS = 120.0
_END_SECONDS = 60.0


def can_be_apart() -> bool:
    """Whether this machine lets us make namespaces."""
    tools = ("ip", "unshare", "nsenter", "mount")
    if os.geteuid() or not all(shutil.which(tool) for tool in tools):
        return False
    probe = ["unshare", "--net", "--mount", "true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


@dataclass(kw_only=True, eq=False)
class ClusterNode:
    """A running `node.sh`."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def output(self) -> str:
        """What it has printed, both streams."""
        return self.log.read_text()

    def processes(self) -> list[psutil.Process]:
        """All that belong to it: the script, Ray's own, and the workers and engines Ray started here."""
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        return []

    def runs(self, name: str) -> bool:
        """Whether a process of this node has the word on its command line, e.g. `RolloutWorker`."""
        return any(name in " ".join(_command(process)) for process in self.processes())

    def kill(self) -> None:
        """As when the machine loses power: all its processes at once, by SIGKILL."""
        doomed = self.processes()
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()  # so that none sees another die and acts on it
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(_END_SECONDS)


@dataclass(kw_only=True)
class RayCluster:
    """Nodes are added with `add`; the first one is the head."""

    token: str = field(default_factory=lambda: os.urandom(32).hex())
    nodes: list[ClusterNode] = field(default_factory=list)
    _folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="ray-")))
    _holder: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """HOST:PORT, for `--address`."""
        return (self._folder / "address").read_text()

    @property
    def environment(self) -> dict[str, str]:
        """What everybody who wants to join has to have."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}

    def add(self, *options: str, host: str, cpus: int = 1, apart: bool = False) -> ClusterNode:
        """Starts a node at an address of this machine; returns when it has joined."""
        given = (f"--node-ip-address={host}", f"--num-cpus={cpus}", OBJECT_STORE, *options)
        role = ("worker", self.address) if self.nodes else ("head", str(self._folder / "address"))
        command = [*self._entering(apart), str(NODE_SCRIPT), *role, *given]
        log = self._folder / f"node-{len(self.nodes)}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command,
                env={
                    **os.environ,
                    **self.environment,
                    "BRAID_BIN": str(Path(sys.executable).parent),
                    "TMPDIR": str(self._folder),
                },
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        node = ClusterNode(process=process, log=log)
        self.nodes.append(node)
        self._wait_for(node)
        return node

    def network(self, hidden: Sequence[Path]) -> tuple[str, str]:
        """Makes the place of nodes that are `apart`. -> (address for the others, address for those)."""
        shadows = " && ".join(f"mount -t tmpfs none '{path}'" for path in (Path("/dev/shm"), *hidden))
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "bash", "-c", f"{shadows} && exec sleep infinity"],
            start_new_session=True,
        )
        # Addresses reserved for benchmarks (RFC 2544): no real network has them.
        place = random.SystemRandom().randrange(2**15)
        third, fourth = divmod(4 * place, 256)
        hosts = [f"198.{18 + third // 256}.{third % 256}.{fourth + end}" for end in (1, 2)]
        link, pid = f"braid{place}", str(self._holder.pid)
        inside = ["nsenter", "--target", pid, "--net", "ip"]
        deadline = time.monotonic() + 10
        while os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            assert time.monotonic() < deadline, "no network namespace"
            time.sleep(0.02)
        for command in (
            ["ip", "link", "add", link, "type", "veth", "peer", "name", "inner", "netns", pid],
            ["ip", "address", "add", f"{hosts[0]}/30", "dev", link],
            ["ip", "link", "set", link, "up"],
            [*inside, "address", "add", f"{hosts[1]}/30", "dev", "inner"],
            [*inside, "link", "set", "inner", "up"],
            [*inside, "link", "set", "lo", "up"],
        ):
            subprocess.run(command, check=True, capture_output=True)
        return hosts[0], hosts[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in reversed(self.nodes):
            self._end(node)
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _entering(self, apart: bool) -> list[str]:
        if not apart:
            return []
        assert self._holder is not None, "network() first"
        return ["nsenter", "--target", str(self._holder.pid), "--net", "--mount"]

    def _wait_for(self, node: ClusterNode) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while "Ray runtime started" not in node.output or not (self._folder / "address").exists():
            assert node.process.poll() is None, f"a node ended too early:\n{node.output}"
            assert time.monotonic() < deadline, f"a node did not start:\n{node.output}"
            time.sleep(0.1)

    def _end(self, node: ClusterNode) -> None:
        seen = node.processes()
        if node.process.poll() is None:
            node.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.process.wait(_END_SECONDS)
        for process in seen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        node.process.wait()


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
