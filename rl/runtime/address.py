"""Checks of `--address` before Ray is imported."""

import socket

from data.errors import ConfigError

_SECONDS = 10.0


def ensure_answers(address: str | None) -> None:
    """Raises ConfigError when nothing listens at HOST:PORT; Ray itself would retry for minutes.

    None (start a cluster) and `auto` (find one) pass.
    """
    if address is None or address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "://" in address:
        raise ConfigError(
            f"--address {address}: is for clients outside the cluster, but this command must run "
            "on the cluster node that has the run directory\n"
            "  fix: run this there with HOST:PORT or auto, or hand the command over with `ray job submit`"
        )
    if not host or not port.isdigit():
        raise ConfigError(f"--address {address}: is neither HOST:PORT nor auto\n  fix: {_REMEDY}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS).close()
    except OSError as error:
        raise ConfigError(
            f"--address {address}: nothing answers there ({error})\n  fix: {_REMEDY}"
        ) from error


_REMEDY = (
    "give what `ray start --head` printed, such as 10.0.0.1:6379; without --address a cluster is started here"
)
