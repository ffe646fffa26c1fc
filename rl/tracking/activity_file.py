"""activity.json: what a run is doing now, written about once a second, for whoever watches it from elsewhere.

{"at": 1790000000.5, "doing": "collecting groups, 3 of 4, 0:30 elapsed", "stage": "rl"}
"""

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

ACTIVITY_FILE = "activity.json"
_WRITE_S = 1.0
"""Shortest time between two writes (seconds)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Doing:
    """The content of activity.json."""

    stage: str
    """Name of the stage that works."""
    doing: str
    """Its current activity in words."""
    at: float
    """Time of the writing, in seconds since 1970."""


class ActivityFile:
    """Writes the current activity of one run."""

    def __init__(self, run_dir: Path, now: Callable[[], float] = time.time) -> None:
        """`now`: seconds since 1970."""
        self._path, self._now = run_dir / ACTIVITY_FILE, now
        self._written_at, self._stage = float("-inf"), ""

    def show(self, stage_name: str, doing: str) -> None:
        """Note what a stage is doing; written at once for another stage, else at most once a second.

        A disk that refuses is no reason to end a run: then the file stays as it was.
        """
        now = self._now()
        if stage_name == self._stage and now - self._written_at < _WRITE_S:
            return
        self._written_at, self._stage = now, stage_name
        text = json.dumps(asdict(Doing(stage=stage_name, doing=doing, at=now)), sort_keys=True)
        partial = self._path.with_name(f".{ACTIVITY_FILE}.partial")
        with contextlib.suppress(OSError):
            # Without the flush to disk of `whole_file`: the event loop must not wait for it every second.
            partial.write_text(text + "\n", encoding="utf-8")
            partial.replace(self._path)


def read_activity(run_dir: Path) -> Doing | None:
    """What the run said last; None where it has said nothing that can be read."""
    try:
        found = json.loads((run_dir / ACTIVITY_FILE).read_text(encoding="utf-8"))
        return Doing(stage=str(found["stage"]), doing=str(found["doing"]), at=float(found["at"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
