"""Timing of a finished run: when each step waited, learned and published, and when each call ran.

The record has the times of calls relative to the start of their group. Groups start as soon as `Admission`
allows: those of the first S + 1 steps at the beginning, those of step t when version t - S is published. So
the times of the steps give those of all calls. (Groups that replace filtered ones start a little earlier.)
"""

from dataclasses import dataclass
from pathlib import Path

from data.episodes.trajectory import Episode
from data.errors import ConfigError
from rl.config import Recipe
from rl.config.stages import RlStage
from rl.storage.rollout_record import RECORD, recorded_groups
from rl.storage.run_directory import RunDirectory
from rl.tracking.metrics import METRICS_FILE, read_metrics

MOST_EPISODES = 20_000
"""Most episodes that are read; of a longer run only the last steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTime:
    """Times of one step, in seconds since the first step began."""

    began: float
    consumed: float
    learned: float
    sent: float
    """Start of publishing, after the validation of the previous weights has ended."""
    published: float
    ended: float
    """End of the validation of its weights, if there was one. The next step runs meanwhile."""
    tokens: float
    """Number of sampled tokens that were trained."""
    filtered: float
    """Groups filtered out since the previous step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedRun:
    """A finished rl stage."""

    recipe: Recipe
    stage: RlStage
    times: tuple[StepTime, ...]
    validated: float
    """End of the validation of the first weights; 0 without one."""
    first: int
    """The step that consumed `groups[0]`."""
    groups: tuple[tuple[tuple[Episode, ...], ...], ...]
    """[steps][groups] episodes, as consumed."""

    @property
    def filtered_share(self) -> float:
        """Share of groups that were filtered out."""
        filtered = sum(time.filtered for time in self.times)
        return filtered / (filtered + self.stage.steps * self.stage.groups_per_step)

    def started(self, step: int) -> float:
        """Time at which the groups of a step started."""
        before = step - self.stage.staleness - 1
        return 0.0 if before < 0 else self.times[before].published


def read_times(path: Path, name: str | None = None) -> tuple[Recipe, RlStage, tuple[StepTime, ...]]:
    """-> recipe, stage and step times of an rl stage of a run: the stage `name`, or the last one.

    Raises ConfigError for a directory that is not a run, or has no such finished stage.
    """
    directory = RunDirectory(path)
    recipe = directory.recipe()
    stage = rl_stage(recipe, name, str(path))
    if directory.done(stage.name) is None:
        raise ConfigError(f"{path}: stage {stage.name!r} is not finished\n  fix: finish it with braid train")
    return recipe, stage, _times(directory.path / METRICS_FILE, stage)


def read_run(path: Path, name: str | None = None) -> RecordedRun:
    """Read an rl stage with its episodes. Raises ConfigError as `read_times`, or without a record."""
    recipe, stage, times = read_times(path, name)
    steps = max(1, MOST_EPISODES // (stage.groups_per_step * stage.samples_per_group))
    first = max(0, stage.steps - steps)
    record = RunDirectory(path).stage(stage.name) / RECORD
    groups = tuple(
        tuple(group.episodes for group in recorded_groups(record, step)) for step in range(first, stage.steps)
    )
    before = next(read_metrics(RunDirectory(path).path / METRICS_FILE, stage.name))
    validated = before.get("time", {}).get("time/validation_s", 0.0) if before["step"] == 0 else 0.0
    return RecordedRun(
        recipe=recipe, stage=stage, times=times, validated=validated, first=first, groups=groups
    )


def rl_stage(recipe: Recipe, name: str | None, source: str) -> RlStage:
    """The rl stage `name`, or the last one. Raises ConfigError when there is none."""
    stages = [stage for stage in recipe.stages if isinstance(stage, RlStage)]
    for stage in reversed(stages):
        if name in (None, stage.name):
            return stage
    known = ", ".join(stage.name for stage in stages) or "none"
    wanted = "rl stage" if name is None else f"rl stage {name!r}"
    raise ConfigError(f"{source}: has no {wanted} (it has: {known})\n  fix: name one of them with --stage")


def _times(path: Path, stage: RlStage) -> tuple[StepTime, ...]:
    times: list[StepTime] = []
    now = 0.0
    for row in read_metrics(path, stage.name):
        spent = row.get("time", {})
        if "time/learner_s" not in spent:
            continue
        consumed = now + spent["time/rollout_wait_s"] + spent.get("time/reward_wait_s", 0.0)
        learned = consumed + spent["time/learner_s"]
        sent = learned + spent.get("time/validation_wait_s", 0.0)
        published = sent + spent["time/publish_s"]
        ended = published + spent.get("time/validation_s", 0.0)
        times.append(
            StepTime(
                began=now,
                consumed=consumed,
                learned=learned,
                sent=sent,
                published=published,
                ended=ended,
                tokens=row["tokens/sampled"],
                filtered=row.get("groups/filtered", 0.0),
            )
        )
        now = published
    if len(times) != stage.steps:
        raise ConfigError(
            f"{path}: has the times of {len(times)} steps of stage {stage.name!r}, which made {stage.steps}\n"
            "  fix: name a run whose metrics are whole"
        )
    return tuple(times)
