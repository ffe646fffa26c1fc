"""Sockets on which processes wait for others."""

import socket
from collections.abc import Sequence

import psutil

Listening = tuple[str, str, int]
"""Name of the process, address, port."""


def listening(processes: Sequence[psutil.Process]) -> set[Listening]:
    """Every listening socket of these processes."""
    names = {process.pid: process for process in processes}
    return {
        (title(names[found.pid]), found.laddr.ip, found.laddr.port)
        for found in psutil.net_connections("inet")
        if found.pid in names and (found.status == psutil.CONN_LISTEN or found.type == socket.SOCK_DGRAM)
    }


def title(process: psutil.Process) -> str:
    """What a process calls itself: its title if it set one, else its program's file name, without the folder.

    The folder is left out because its length differs from clone to clone. A process that is about to end, or
    to change its title, has no command line.
    """
    try:
        command = process.cmdline() or [process.name()]
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return str(process.pid)
    return f"{process.pid} {command[0].rsplit('/', 1)[-1]}"
