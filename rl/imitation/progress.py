"""Progress file of a supervised stage, written by the first rank and followed by the controller.

{"doing": "making forests", "done": 120, "total": 800}
{"note": "4 of 60 demonstrations do not fit"}
{"step": 3, "loss": 2.1, "gradient_norm": 0.8, "learning_rate": 0.001, "skipped_updates": 0}

NaN and infinities are the texts "nan", "inf" and "-inf", as in `metrics.jsonl`.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data.whole_file import json_line
from rl.tracking.activity import Activity
from rl.tracking.metrics import Scalar, json_number
from rl.tracking.silence import SILENT_S, Silence

PROGRESS = "progress.jsonl"
"""Name of the file, in the stage's folder."""
_WRITE_S = 1.0
"""Shortest time between two lines on activities (seconds)."""


class ProgressWriter:
    """Appends lines to the progress file."""

    def __init__(self, path: Path, now: Callable[[], float] = time.monotonic) -> None:
        self._path, self._now = path, now
        self._written_at = -math.inf
        self._activity = ""

    def doing(self, activity: str, done: int = 0, total: int = 0) -> None:
        """An activity and how much of it is done; `total` 0: unknown. At most one line a second on each."""
        now = self._now()
        if activity != self._activity or now - self._written_at >= _WRITE_S:
            self._written_at, self._activity = now, activity
            self._append({"doing": activity, "done": done, "total": total})

    def note(self, text: str) -> None:
        """Something that the user should know."""
        self._append({"note": text})

    def step(self, step: int, metrics: Mapping[str, Scalar | str]) -> None:
        """The metrics of an update."""
        self._append({"step": step, **{name: json_number(value) for name, value in metrics.items()}})

    def _append(self, line: Mapping[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json_line(line).decode())


class ProgressReader:
    """Reads the progress file while it grows."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def new(self) -> list[dict[str, Any]]:
        """The lines since the last call; one that is still being written is left for the next."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole, _, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + 1 if whole else 0
        return [json.loads(line) for line in whole.splitlines()]


class ActivityLines:
    """Prints the current activity whenever the screen has been silent for too long."""

    def __init__(self, stage_name: str, activity: str, now: Callable[[], float] = time.monotonic) -> None:
        self._stage_name, self._now = stage_name, now
        self._activity = Activity(name=activity, began=now())
        # Each line has a new estimate, so the time between two does not grow.
        self._silence = Silence(SILENT_S, now)

    @property
    def is_due(self) -> bool:
        """Whether a line is due."""
        return self._silence.is_due

    @property
    def text(self) -> str:
        """The current activity in one line."""
        return self._activity.text(self._now())

    def shown(self) -> None:
        """Note that another line was printed."""
        self._silence.end()

    def update(self, name: str, done: int = 0, total: int = 0) -> None:
        """Set the current activity."""
        if name != self._activity.name or done < self._activity.done:
            self._activity = Activity(name=name, began=self._now())
        self._activity.done, self._activity.total = done, total

    def show_when_due(self) -> None:
        """Prints the activity if a line is due."""
        if self._silence.is_due:
            print(f"{self._stage_name}: {self.text}", flush=True)
            self._silence.interrupt()
