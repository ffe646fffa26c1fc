"""Result of a simulation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRow:
    """One batch that a step consumed."""

    step: int
    groups: tuple[int, ...]
    sampled: dict[int, float]
    """Staleness (step minus sampling version) -> tokens."""

    @property
    def tokens(self) -> float:
        """Number of tokens in the batch."""
        return sum(self.sampled.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Throughput, idle time and staleness of a simulated plan."""

    steps: int
    seconds: float
    tokens: float
    """Number of trained tokens."""
    engine_idle: float
    """Share of the time without a group at work, mean over engines."""
    learner_idle: float
    """Share of the time without a training step at work."""
    staleness: dict[int, float]
    """Staleness -> share of the trained tokens."""
    waits: dict[str, float]
    """What the controller waits for (rollout, learner, publish, validation, down) -> share of the time."""

    @property
    def steps_per_hour(self) -> float:
        """Training steps per hour."""
        return 3600 * self.steps / self.seconds

    @property
    def tokens_per_s(self) -> float:
        """Trained tokens per second."""
        return self.tokens / self.seconds

    @property
    def mean_staleness(self) -> float:
        """Mean staleness of the trained tokens."""
        return sum(lag * share for lag, share in self.staleness.items())

    @property
    def waits_for(self) -> str:
        """Name of the largest of `waits`."""
        return max(self.waits, key=lambda name: self.waits[name])


def make_report(
    rows: Sequence[StepRow],
    *,
    seconds: float,
    spent: Mapping[str, float],
    engine_busy_s: float,
    engines: int,
) -> Report:
    """Build the report. `spent`: what the controller waited for -> seconds."""
    by_lag: dict[int, float] = {}
    for row in rows:
        for lag, tokens in row.sampled.items():
            by_lag[lag] = by_lag.get(lag, 0.0) + tokens
    total = sum(by_lag.values())
    return Report(
        steps=len(rows),
        seconds=seconds,
        tokens=total,
        engine_idle=1 - engine_busy_s / (seconds * engines),
        learner_idle=1 - spent["learner"] / seconds,
        staleness={lag: tokens / total for lag, tokens in sorted(by_lag.items()) if total},
        waits={name: value / seconds for name, value in spent.items()},
    )
