"""Peak resident memory of a run and all its processes.

Proportional set size (PSS): each resident page counts once, split between the processes that map it. So
code and shared memory that many workers map are not counted many times, as in a sum of RSS.
"""

import os
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import psutil

GB = 1e9
"""Bytes. Decimal, so a figure in GB is never flattered by 7% as in GiB."""


def process_tree(roots: Iterable[int], command_part: str | None = None) -> dict[int, psutil.Process]:
    """The roots, all processes with `command_part` on their command line, and their descendants, by id.

    Some of Ray's processes leave the driver's tree (their parent ends and init adopts them), but name the
    session's directory on their command line.
    """
    children: dict[int, list[psutil.Process]] = {}
    chosen: dict[int, psutil.Process] = {}
    pending: list[psutil.Process] = []
    wanted = set(roots)
    for process in psutil.process_iter(["ppid", "cmdline"]):
        children.setdefault(process.info["ppid"], []).append(process)
        named = command_part and any(command_part in word for word in process.info["cmdline"] or ())
        if process.pid in wanted or named:
            pending.append(process)
    while pending:
        process = pending.pop()
        if process.pid not in chosen:
            chosen[process.pid] = process
            pending.extend(children.get(process.pid, ()))
    return chosen


def resident_bytes(process: psutil.Process) -> int:
    """PSS, or RSS (larger) where PSS is not to be had; 0 for a process that has gone."""
    try:
        # One read of smaps_rollup: the kernel sums up; listing every mapping (smaps) takes ten times as long.
        return int(getattr(process.memory_full_info(), "pss", 0)) or int(process.memory_info().rss)
    except psutil.AccessDenied:
        return _rss(process)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return 0


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


class PeakMemory:
    """A thread that samples the tree's memory every `interval_s` seconds; a context manager.

    `peak_gb` is a lower bound of the true peak: what lives shorter than the interval can be missed.
    """

    def __init__(
        self,
        root: int | None = None,
        *,
        extra: Iterable[int] = (),
        command_part: str | None = None,
        interval_s: float = 2.0,
        earlier_gb: float = 0.0,
    ) -> None:
        """`root` is this process by default; `earlier_gb` is the peak before a resume."""
        self._roots = {root if root is not None else os.getpid(), *extra}
        self.command_part = command_part
        """May be set while running: Ray's session directory is known only once Ray has started."""
        self._interval_s = interval_s
        self._peak = earlier_gb * GB
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="peak-memory", daemon=True)

    @property
    def peak_gb(self) -> float:
        """Largest sum seen so far, in GB (1e9 bytes)."""
        return self._peak / GB

    def sample(self) -> float:
        """Measures now, remembers the largest, returns GB."""
        tree = process_tree(self._roots, self.command_part)
        total = sum(resident_bytes(process) for process in tree.values())
        self._peak = max(self._peak, total)
        return total / GB

    def start(self) -> Self:
        """Starts sampling."""
        self._thread.start()
        return self

    def stop(self) -> float:
        """Ends sampling after a last sample; returns the peak in GB."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.sample()
        return self.peak_gb

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        while True:
            began = time.monotonic()
            self.sample()
            # A slow machine must not spend itself on measuring: at most a twentieth of the time.
            if self._stop.wait(max(self._interval_s, 20 * (time.monotonic() - began))):
                return
