"""Nothing of a run can be reached from another machine, and a run needs no network but the loopback one."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from data.errors import ConfigError
from rl.runtime.loopback import loopback_environment, loopback_interface

LOCAL = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
UNSHARE = ("unshare", "--net", "--map-root-user")
HAS_UNSHARE = subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0
without_network = pytest.mark.skipif(not HAS_UNSHARE, reason="needs a network namespace of its own (unshare)")

INTERFACE = """
import fcntl, socket, struct, sys
request = struct.pack("16sh", b"lo", 0x1 | 0x40)  # IFF_UP, IFF_RUNNING
fcntl.ioctl(socket.socket(), 0x8914, request)  # SIOCSIFFLAGS
"""
SESSION = """
import sys
import ray
from pathlib import Path
from rl.runtime.ray_session import Runtime

with Runtime(Path(sys.argv[1])):
    print(ray.get(ray.remote(lambda: 7).remote()))
"""


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_every_socket_of_a_run_listens_on_the_loopback_address(sequential: Path) -> None:
    """Two supervised ranks, two learner ranks, an engine: all their sockets, from the start to the end."""
    seen = json.loads(sequential.with_name("sockets.json").read_text())
    open_to_others = [one for one in seen if one[1] not in LOCAL]
    assert not open_to_others, open_to_others
    names = " ".join(name for name, _, _ in seen)
    for part in ("gcs_server", "raylet", "RankWorker", "RolloutWorker", "EngineCore"):
        assert part in names, names
    assert not {44217, 44227} & {port for _, _, port in seen}, "a metrics port is open"


def in_empty_network(before: str, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python code where no interface is up, after `before`."""
    return subprocess.run(
        [*UNSHARE, sys.executable, "-c", before + code, *arguments],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.slow
@without_network
def test_the_loopback_interface_alone_is_enough(run_dir: Path) -> None:
    result = in_empty_network(INTERFACE, SESSION, str(run_dir))
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["7"]


@pytest.mark.slow
@without_network
def test_without_any_interface_there_is_one_message(run_dir: Path) -> None:
    result = in_empty_network("", SESSION, str(run_dir))
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-2:]
    assert "127.0.0.1 does not answer" in last[0]
    assert "ip link set lo up" in last[1]


def test_the_interface_is_that_of_the_loopback_address() -> None:
    addresses = psutil.net_if_addrs()[loopback_interface()]
    assert "127.0.0.1" in [address.address for address in addresses]
    assert loopback_environment()["GLOO_SOCKET_IFNAME"] == loopback_interface()


def test_a_machine_that_cannot_reach_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(ConfigError, match=r"does not answer.*Network is unreachable"):
        loopback_environment()
