"""The state of a run as its files tell it, for any process that can read them; nothing is written or locked.

A run counts as running while a process of this machine holds its lock, or activity.json is fresh (the run may
be on another machine).
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from data.errors import ConfigError
from data.ledger.queries import Mishap, mishaps, running_groups
from rl.storage.files import read_json
from rl.storage.identity import RECIPE_FILE
from rl.tracking.activity_file import Doing, read_activity
from rl.tracking.metrics_tail import MetricsTail, StageMetrics

FRESH_S = 30.0
"""Age of activity.json (seconds) up to which a run of another machine counts as running."""
MOST_MISHAPS = 3
"""Resumes, restarts and faults that are shown: the latest."""
_WHOLE_RUN = "run"
"""Name under which the ledger has faults of no single stage."""
_STEP_PARTS = (
    "time/rollout_wait_s", "time/reward_wait_s", "time/learner_s", "time/validation_wait_s", "time/publish_s",
)  # fmt: skip
"""Metrics that add up to the seconds of a step."""
_RECENT = 10
"""Latest steps whose mean duration gives the time left."""


class Phase(StrEnum):
    """How far a run or a stage is."""

    WAITING = "waiting"
    RUNNING = "running"
    STOPPED = "stopped"
    FINISHED = "finished"


@dataclass(frozen=True, kw_only=True, slots=True)
class StageState:
    """One stage of a run."""

    name: str
    kind: str
    steps: int | None
    """Number of steps of the recipe; None for a stage without steps."""
    phase: Phase
    metrics: StageMetrics = field(default_factory=StageMetrics)

    @property
    def seconds_left(self) -> float | None:
        """Time left at the pace of the latest steps; None where none has been timed.

        Example: 8 of 10 steps done, the latest took 3 and 5 seconds: 8 seconds.
        """
        columns = [
            list(self.metrics.values[key])[-_RECENT:] for key in _STEP_PARTS if key in self.metrics.values
        ]
        if self.steps is None or not columns:
            return None
        per_step = sum(sum(column) / len(column) for column in columns)
        return per_step * max(0, self.steps - self.metrics.step)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """One look at a run."""

    path: Path
    name: str
    """Name of the recipe."""
    phase: Phase
    stages: tuple[StageState, ...]
    doing: Doing | None
    now: float
    """Time of the look, in seconds since 1970."""
    sampling: int = 0
    """Groups that are on the engines."""
    mishaps: tuple[Mishap, ...] = ()
    """The latest resumes, restarts and faults, over all stages."""
    unreadable: str = ""
    """Why the ledger could not be read; empty when it could, or there is none yet."""

    @property
    def current(self) -> StageState:
        """The stage to look at: the one that works, else the first that is not finished, else the last with
        metrics.
        """
        for stage in self.stages:
            if stage.phase in (Phase.RUNNING, Phase.STOPPED):
                return stage
        waiting = [stage for stage in self.stages if stage.phase is Phase.WAITING]
        measured = [stage for stage in self.stages if stage.metrics.values]
        return (waiting or measured[-1:] or list(self.stages))[0]


class RunWatch:
    """Looks at one run again and again."""

    def __init__(self, run_dir: Path, now: Callable[[], float] = time.time) -> None:
        """`now`: seconds since 1970. Raises ConfigError when recipe.json is missing or no recipe."""
        self._path, self._now = run_dir, now
        recipe = read_json(run_dir / RECIPE_FILE)
        try:
            # As plain JSON: a recipe of another version of Braid, or one with extensions, can be watched too.
            self._name = str(recipe["name"])
            self._stages = [_declared(stage) for stage in recipe["stages"]]
        except (KeyError, TypeError) as error:
            raise ConfigError(
                f"{run_dir / RECIPE_FILE}: is not a recipe ({error!r})\n  fix: restore the file"
            ) from error
        self._metrics = MetricsTail(run_dir)

    def look(self) -> RunState:
        """The state as of now."""
        self._metrics.follow()
        now, doing = self._now(), read_activity(self._path)
        is_fresh = doing is not None and abs(now - doing.at) < FRESH_S
        alive = is_locked(self._path / "lock") or is_fresh
        stages, is_open = [], False
        for name, kind, steps in self._stages:
            metrics = self._metrics.stages.get(name, StageMetrics())
            if (self._path / "stages" / name / "done.json").exists():
                phase = Phase.FINISHED
            elif is_open or not (alive or metrics.values or (self._path / "stages" / name).exists()):
                phase = Phase.WAITING
            else:
                phase, is_open = (Phase.RUNNING if alive else Phase.STOPPED), True
            stages.append(StageState(name=name, kind=kind, steps=steps, phase=phase, metrics=metrics))
        phases = {stage.phase for stage in stages}
        sampling, found, unreadable = self._ask_ledger(is_running=Phase.RUNNING in phases)
        return RunState(
            path=self._path,
            name=self._name,
            phase=(
                Phase.FINISHED if phases == {Phase.FINISHED}
                else Phase.RUNNING if alive
                else Phase.STOPPED
            ),
            stages=tuple(stages),
            doing=doing,
            now=now,
            sampling=sampling,
            mishaps=found,
            unreadable=unreadable,
        )  # fmt: skip

    def _ask_ledger(self, *, is_running: bool) -> tuple[int, tuple[Mishap, ...], str]:
        """-> groups on the engines, latest mishaps, and why the ledger could not be read."""
        path = self._path / "ledger.sqlite"
        if not path.exists():
            return 0, (), ""
        names = [name for name, kind, _ in self._stages]
        try:
            found = [mishap for name in (*names, _WHOLE_RUN) for mishap in mishaps(path, name)]
            sampling = sum(len(running_groups(path, name)) for name in names) if is_running else 0
        except ConfigError as error:
            return 0, (), str(error).splitlines()[0]
        latest = sorted(found, key=lambda mishap: mishap.at)[-MOST_MISHAPS:]
        return sampling, tuple(latest), ""


def _declared(stage: Any) -> tuple[str, str, int | None]:
    steps = stage.get("steps")
    return str(stage["name"]), str(stage["kind"]), steps if isinstance(steps, int) else None


def is_locked(path: Path) -> bool:
    """Whether a process of this machine holds the lock on a file, by the kernel's list of locks.

    Taking the lock to find out would refuse a run that starts at that moment.
    """
    try:
        status = path.stat()
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    return any(wanted in line.split() for line in lines)
