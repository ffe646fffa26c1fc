"""The network of a local cluster: its processes listen on the loopback address only.

Ray opens about ten ports, and without a node address it binds them to all interfaces. It ignores
`_node_ip_address="127.0.0.1"`: `resolve_ip_for_localhost` replaces that by the machine's own address. Only
where Ray assumes that it cannot form clusters (as on macOS) is the node's address the loopback address, and
then all its servers bind there. These variables have that effect:

    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0   the node's address is 127.0.0.1 (read when Ray is imported)
    RAY_enable_metrics_collection=0       the agent opens no metrics port
    AUTOSCALER_METRIC_PORT=-1             the autoscaler's metrics port (fixed: 44217) cannot be opened
    DASHBOARD_METRIC_PORT=-1              nor can the dashboard's (fixed: 44227); both processes go on without
    GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME   ranks exchange gradients over the loopback interface
    VLLM_HOST_IP=127.0.0.1                the engine's own process group
"""

import contextlib
import os
import socket
from collections.abc import Iterator

import psutil
from ray._private import ray_constants

from data.errors import ConfigError

LOOPBACK = "127.0.0.1"
_SECONDS = 5.0


def loopback_environment() -> dict[str, str]:
    """The variables above. Raises ConfigError when the loopback interface is down."""
    interface = loopback_interface()
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_enable_metrics_collection": "0",
        "AUTOSCALER_METRIC_PORT": "-1",
        "DASHBOARD_METRIC_PORT": "-1",
        "GLOO_SOCKET_IFNAME": interface,
        "NCCL_SOCKET_IFNAME": interface,
        "VLLM_HOST_IP": LOOPBACK,
    }


def loopback_interface() -> str:
    """Name of the interface that has the loopback address, such as `lo`.

    Raises ConfigError when this machine cannot connect to itself: Ray would retry silently.
    """
    try:
        with socket.create_server((LOOPBACK, 0)) as server:
            socket.create_connection(server.getsockname(), timeout=_SECONDS).close()
    except OSError as error:
        raise ConfigError(
            f"the processes of a run cannot reach each other: {LOOPBACK} does not answer ({error})\n"
            "  fix: bring the loopback interface up (`ip link set lo up`)"
        ) from error
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address == LOOPBACK for address in addresses):
            return name
    raise ConfigError(f"no network interface of this machine has the address {LOOPBACK}")


@contextlib.contextmanager
def loopback_only() -> Iterator[None]:
    """Ray that is started inside listens on the loopback address only.

    Raises ConfigError when the loopback interface is down.
    """
    variables = loopback_environment()
    before = {name: os.environ.get(name) for name in variables}
    enabled = ray_constants.ENABLE_RAY_CLUSTER
    os.environ.update(variables)
    # The driver has imported Ray already; processes that Ray starts read the variable.
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = enabled
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
