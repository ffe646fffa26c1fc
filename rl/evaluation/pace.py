"""How fast a finished reinforcement stage went, and who was idle meanwhile, from its books.

Its time is that of the whole stage, from the start of its first group to its last publication: pipelines
that fill and drain, validations and checkpoints count. What comes before (engines) and after does not.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from data.ledger.schema import reading
from rl.evaluation.bottleneck import waiting_shares
from rl.storage.run_directory import RunDirectory
from rl.tracking.metrics import METRICS_FILE, read_metrics

_GROUPS = """
SELECT started_at, started_at + rollout_s
FROM groups
WHERE stage = :stage AND rollout_s IS NOT NULL
"""
_PUBLICATIONS = """
SELECT version, MAX(publications.at)
FROM publications JOIN incarnations USING (incarnation)
WHERE stage = :stage
GROUP BY version
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Of a stage that was never interrupted."""

    seconds: float
    steps: int
    learner_idle: float
    """Share of the time in which the learner neither trained nor published."""
    engine_idle: float
    """Share of the time in which no group was being sampled, for training or validation."""
    waits: dict[str, float]
    """Shares of the time by what the controller waited for, as in `rl.evaluation.bottleneck`."""

    @property
    def steps_per_hour(self) -> float:
        """Whole ones, all of the stage."""
        return 3600 * self.steps / self.seconds


def pace_of(run: Path, stage: str) -> Pace:
    """Raises ConfigError when the run has no books, or damaged ones."""
    times = {row["step"]: row.get("time", {}) for row in read_metrics(run / METRICS_FILE, stage)}
    with reading(RunDirectory(run).ledger) as books:
        sampling = books.execute(_GROUPS, {"stage": stage}).fetchall()
        published = dict(books.execute(_PUBLICATIONS, {"stage": stage}).fetchall())
    return measure_pace(sampling, published, times)


def measure_pace(
    sampling: Iterable[tuple[float, float]],
    published: Mapping[int, float],
    times: Mapping[int, Mapping[str, float]],
) -> Pace:
    """When groups were sampled, when versions were published, and each step's metrics of time -> the pace."""
    sampled = list(sampling)
    begun, ended = min(start for start, _ in sampled), published[max(published)]
    # Validations begin right after the publication of what they validate.
    validated = [
        (published[step], published[step] + row["time/validation_s"])
        for step, row in times.items()
        if "time/validation_s" in row
    ]
    waits = waiting_shares(times.values(), ended - begun)
    return Pace(
        seconds=ended - begun,
        steps=max(published),
        learner_idle=1 - waits["learner"] - waits["publish"],
        engine_idle=1 - covered([*sampled, *validated], begun, ended) / (ended - begun),
        waits=waits,
    )


def covered(intervals: Iterable[tuple[float, float]], begun: float, ended: float) -> float:
    """Length of the union of intervals within [begun, ended].

    Example: (0, 2), (1, 3) and (5, 9) within [0, 6] cover 4.
    """
    total, reached = 0.0, begun
    for start, stop in sorted(intervals):
        first, last = max(start, reached), min(stop, ended)
        if last > first:
            total += last - first
            reached = last
    return total
