"""Peak resident memory of a run and all its processes.

It is measured as proportional set size (PSS): each resident page counts once, split between the processes
that map it. A sum of RSS would count code and shared memory once for every worker.
"""

import os
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import psutil

GB = 1e9
"""Bytes of a gigabyte, decimal; a figure in GiB would look 7% smaller."""


def process_tree(roots: Iterable[int], command_part: str | None = None) -> dict[int, psutil.Process]:
    """The roots, all processes with `command_part` on their command line, and their descendants, by id.

    Some of Ray's processes leave the driver's tree (their parent ends and init adopts them), but have the
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
    """PSS in bytes, or RSS (larger) where PSS cannot be read; 0 for a process that has ended."""
    try:
        # Reads smaps_rollup, which the kernel sums up; every mapping (smaps) takes ten times as long.
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

    `peak_gb` is a lower bound of the true peak: memory held for less than the interval can be missed.
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
        """`root` is a process id, by default of this process; `earlier_gb` is the peak before a resume."""
        self._roots = {root if root is not None else os.getpid(), *extra}
        self.command_part = command_part
        """Part of a command line whose processes count; set once Ray's session directory is known."""
        self._interval_s = interval_s
        self._peak = earlier_gb * GB
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="peak-memory", daemon=True)

    @property
    def peak_gb(self) -> float:
        """Largest sum so far, in GB (1e9 bytes)."""
        return self._peak / GB

    def sample(self) -> float:
        """Measures now and updates the peak. -> GB."""
        tree = process_tree(self._roots, self.command_part)
        total = sum(resident_bytes(process) for process in tree.values())
        self._peak = max(self._peak, total)
        return total / GB

    def start(self) -> Self:
        """Starts the sampling thread; returns itself."""
        self._thread.start()
        return self

    def stop(self) -> float:
        """Ends the thread after a last sample. -> the peak in GB."""
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
            # Measuring takes at most a twentieth of the time, also on a slow machine.
            if self._stop.wait(max(self._interval_s, 20 * (time.monotonic() - began))):
                return
