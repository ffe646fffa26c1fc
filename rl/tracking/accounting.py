"""Seconds and peak memory of a run, over all its resumptions."""

import os
import time
from typing import Self

from data.whole_file import write_json
from rl.storage.files import read_json
from rl.storage.run_directory import RunDirectory
from rl.tracking.peak_memory import PeakMemory


class Accounting:
    """A context manager around the whole run."""

    def __init__(self, directory: RunDirectory) -> None:
        self._path = directory.path / "accounting.json"
        earlier = read_json(self._path) if self._path.exists() else {"seconds": 0.0, "peak_memory_gb": 0.0}
        self._earlier_s = float(earlier["seconds"])
        self._began = time.monotonic()
        self.memory = PeakMemory(os.getpid(), earlier_gb=float(earlier["peak_memory_gb"]))

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of work so far."""
        return self._earlier_s + time.monotonic() - self._began

    def __enter__(self) -> Self:
        self.memory.start()
        return self

    def __exit__(self, *_: object) -> None:
        peak = self.memory.stop()
        write_json(self._path, {"seconds": self.seconds, "peak_memory_gb": peak})
