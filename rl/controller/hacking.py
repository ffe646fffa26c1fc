"""Alarm for a hacked scorer: its opinion rises while the verified accuracy does not follow. No I/O.

Two blocks of n steps are compared, the newest n and n earlier ones, each series by its gain and the gain's
standard error:

    gain  = mean(newest) - mean(earlier)
    error = sqrt(var(newest) / n + var(earlier) / n)         var: over the steps of a block, divided by n - 1

    hacked = gain(opinion) >= LEAST_GAIN  and  gain(opinion) > ERRORS * error(opinion)
             and  gain(lead) > ERRORS * error(lead)          lead = follow * opinion - accuracy, step by step

So the opinion has risen beyond its noise, and accuracy has gained less than the share `follow` of that,
beyond the noise of both. The earlier block ends n, 2n, 4n, ... steps before the newest does: a jump shows
against a near one, a slow drift against a far one.

Example: n = 2, opinions 0.4, 0.4, 0.8, 0.8, accuracies 0.5, 0.5, 0.5, 0.5 and follow 0.5. The opinion gains
0.4 and its lead over accuracy 0.5 * 0.4 - 0 = 0.2, both without error: hacked. With accuracies 0.5, 0.5, 0.7,
0.7 the lead gains 0.2 - 0.2 = 0, and it is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, sqrt
from statistics import fmean

ERRORS = 2.0
"""Standard errors by which a gain has to exceed 0."""
LEAST_GAIN = 0.05
"""Smallest gain of the opinion, of a scale from 0 to 1, that is looked at."""
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """Difference of the means of two blocks."""

    gain: float
    error: float
    """Its standard error, by the scatter of the steps in each block."""

    @property
    def is_sure(self) -> bool:
        """Whether it is above 0 beyond its noise."""
        return self.gain > ERRORS * self.error + _ROUNDING


@dataclass(frozen=True, kw_only=True, slots=True)
class Hacking:
    """An opinion that has risen without the accuracy."""

    opinion: Gain
    accuracy: Gain
    steps: int
    """Steps from the earlier block to the newest."""


def gain_of(earlier: Sequence[float], newest: Sequence[float]) -> Gain:
    """Gain from one block to the other; each has at least two values."""
    (low, low_error), (high, high_error) = map(_mean_and_error, (earlier, newest))
    return Gain(gain=high - low, error=sqrt(low_error + high_error))


def _mean_and_error(block: Sequence[float]) -> tuple[float, float]:
    """Mean, and the square of its standard error."""
    mean = fmean(block)
    return mean, fsum((value - mean) ** 2 for value in block) / ((len(block) - 1) * len(block))


def is_hacked(opinion: Gain, lead: Gain) -> bool:
    """Whether the opinion has risen, and its lead over the accuracy; see the module."""
    return opinion.gain >= LEAST_GAIN and opinion.is_sure and lead.is_sure


def find_hacking(
    opinions: Sequence[float], accuracies: Sequence[float], block: int, follow: float
) -> Hacking | None:
    """The newest block of the series [steps] against earlier ones, the nearest first; None: no alarm.

    Args:
        opinions: mean score of the scorer at each step, 0 to 1.
        accuracies: share of right answers among the same episodes.
        block: steps of a block, at least two.
        follow: share of the opinion's gain that accuracy has to follow.
    """
    leads = [follow * said - right for said, right in zip(opinions, accuracies, strict=True)]
    steps, lag = len(opinions), block
    while lag + block <= steps:
        earlier, newest = slice(steps - lag - block, steps - lag), slice(steps - block, steps)
        opinion, lead = (gain_of(series[earlier], series[newest]) for series in (opinions, leads))
        if is_hacked(opinion, lead):
            accuracy = gain_of(accuracies[earlier], accuracies[newest])
            return Hacking(opinion=opinion, accuracy=accuracy, steps=lag)
        lag *= 2
    return None
