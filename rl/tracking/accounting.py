"""Seconds and peak memory of a run, over all its resumes, and the machine of the last one."""

import os
import time
from pathlib import Path
from typing import Self

from data.errors import ConfigError
from data.whole_file import write_json
from rl.preflight.hardware import probe
from rl.storage.files import read_json
from rl.storage.run_directory import RunDirectory
from rl.tracking.peak_memory import PeakMemory


class Accounting:
    """Measures seconds and peak memory of a run; a context manager around all of it."""

    def __init__(self, directory: RunDirectory) -> None:
        self._path = directory.path / "accounting.json"
        self._earlier_s, earlier_gb = _earlier(self._path)
        self._began, self._machine = time.monotonic(), ""
        self.memory = PeakMemory(os.getpid(), earlier_gb=earlier_gb)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of work so far, over all starts."""
        return self._earlier_s + time.monotonic() - self._began

    def __enter__(self) -> Self:
        self._machine = str(probe())
        self.memory.start()
        return self

    def __exit__(self, *_: object) -> None:
        peak = self.memory.stop()
        figures = {"seconds": self.seconds, "peak_memory_gb": peak, "machine": self._machine}
        write_json(self._path, figures)


def _earlier(path: Path) -> tuple[float, float]:
    """Seconds and peak memory (GB) before this start. A damaged file is renamed, with a warning: figures of
    time must not keep a run from going on.
    """
    if not path.exists():
        return 0.0, 0.0
    try:
        found = read_json(path)
        return float(found["seconds"]), float(found["peak_memory_gb"])
    except (ConfigError, KeyError, TypeError, ValueError):
        aside = path.with_name(f"damaged-{path.name}")
        path.replace(aside)
        print(f"{path}: cannot be read; renamed to {aside.name}, seconds are counted anew", flush=True)
        return 0.0, 0.0
