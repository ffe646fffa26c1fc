"""Follows metrics.jsonl while another process writes it, reading only what is new."""

import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rl.tracking.metrics import METRICS_FILE, parse_record

MOST_POINTS = 2_000
"""Values kept of each metric, the latest ones."""
_OWN = ("stage", "step", "time")


@dataclass(kw_only=True, slots=True)
class StageMetrics:
    """What one stage has written so far."""

    step: int = 0
    """Number of the last step."""
    values: dict[str, deque[float]] = field(default_factory=dict)
    """The latest values of each metric, in order; those of the last step end the list."""

    def add(self, record: Mapping[str, Any]) -> None:
        """Take in a line; "nan" and "inf" become the numbers that they stand for."""
        self.step = max(self.step, record["step"])
        for key, value in {**record, **record.get("time", {})}.items():
            if key not in _OWN and isinstance(value, int | float | str):
                try:
                    number = float(value)
                except ValueError:
                    continue
                self.values.setdefault(key, deque(maxlen=MOST_POINTS)).append(number)

    def last(self, key: str) -> float | None:
        """The latest value of a metric; None where it has none."""
        return self.values[key][-1] if key in self.values else None


class MetricsTail:
    """The metrics of a run, stage by stage, as of the last call of `follow`."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / METRICS_FILE
        self._file_id, self._offset = (0, 0), 0
        self.stages: dict[str, StageMetrics] = {}
        """Stages that have written a line, in that order."""

    def follow(self) -> None:
        """Read the lines that are new. Lines that are no records are left out, and so is an unfinished one.

        A resume replaces the file by a shorter one: then all of it is read again.
        """
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                file_id = status.st_dev, status.st_ino
                if file_id != self._file_id or status.st_size < self._offset:
                    self._file_id, self._offset, self.stages = file_id, 0, {}
                file.seek(self._offset)
                whole, end, _ = file.read().rpartition(b"\n")
        except OSError:
            return
        self._offset += len(whole) + len(end)
        for line in whole.split(b"\n") if end else ():
            if (record := parse_record(line)) is not None:
                self.stages.setdefault(record["stage"], StageMetrics()).add(record)
