"""What a simulation found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRow:
    """One consumed batch."""

    step: int
    groups: tuple[int, ...]
    sampled: dict[int, float]
    """Tokens by staleness: step minus the version that sampled them."""

    @property
    def tokens(self) -> float:
        """Sampled by the batch."""
        return sum(self.sampled.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Of a whole plan."""

    steps: int
    seconds: float
    tokens: float
    """Trained."""
    engine_idle: float
    """Share of the time, mean over engines, without any group at work."""
    learner_idle: float
    """Share of the time without a training step at work."""
    staleness: dict[int, float]
    """Share of tokens by steps between the weights that sampled them and the step that trained them."""
    waits: dict[str, float]
    """Share of the time by what the controller waits for: rollout, learner, publish, validation, down."""

    @property
    def steps_per_hour(self) -> float:
        """Training steps."""
        return 3600 * self.steps / self.seconds

    @property
    def tokens_per_s(self) -> float:
        """Trained tokens."""
        return self.tokens / self.seconds

    @property
    def mean_staleness(self) -> float:
        """Of tokens."""
        return sum(lag * share for lag, share in self.staleness.items())

    @property
    def waits_for(self) -> str:
        """The largest of `waits`."""
        return max(self.waits, key=lambda name: self.waits[name])


def make_report(
    rows: Sequence[StepRow],
    *,
    seconds: float,
    spent: Mapping[str, float],
    engine_busy_s: float,
    engines: int,
) -> Report:
    """`spent`: seconds of the controller by what it waited for."""
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
