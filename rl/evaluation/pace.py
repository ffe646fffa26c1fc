"""Speed of a finished rl stage and idle shares of engines and learner, from ledger and metrics.

The time runs from the start of the first group to the last publication: filling and draining of the pipeline,
validations and checkpoints count; starting engines before it does not.
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
    """Speed and idle shares of a stage that was never interrupted."""

    seconds: float
    steps: int
    learner_idle: float
    """Share of the time in which the learner neither trained nor published weights."""
    engine_idle: float
    """Share of the time in which no group was being sampled, for training or validation."""
    waits: dict[str, float]
    """Shares of the time by what the controller waited for (`rl.evaluation.bottleneck`)."""

    @property
    def steps_per_hour(self) -> float:
        """Training steps per hour, over the whole stage."""
        return 3600 * self.steps / self.seconds


def pace_of(run: Path, stage: str) -> Pace:
    """The pace of one stage of a run. Raises ConfigError if its ledger or metrics are missing or damaged."""
    times = {row["step"]: row.get("time", {}) for row in read_metrics(run / METRICS_FILE, stage)}
    with reading(RunDirectory(run).ledger) as ledger:
        sampling = ledger.execute(_GROUPS, {"stage": stage}).fetchall()
        published = dict(ledger.execute(_PUBLICATIONS, {"stage": stage}).fetchall())
    return measure_pace(sampling, published, times)


def measure_pace(
    sampling: Iterable[tuple[float, float]],
    published: Mapping[int, float],
    times: Mapping[int, Mapping[str, float]],
) -> Pace:
    """The pace, from times in seconds: intervals of sampling, publications by version, metrics by step."""
    sampled = list(sampling)
    begun, ended = min(start for start, _ in sampled), published[max(published)]
    # A validation starts right after its weights are published.
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
    """Length of the union of the intervals, within [begun, ended].

    Example: (0, 2), (1, 3) and (5, 9) within [0, 6] cover 4.
    """
    total, reached = 0.0, begun
    for start, stop in sorted(intervals):
        first, last = max(start, reached), min(stop, ended)
        if last > first:
            total += last - first
            reached = last
    return total
