"""Interface of advantage estimators, and the statistics that they share.

An estimator maps the values of a batch, [P][G] (groups of different sizes are fine), to advantages of the
same shape. A value is a reward, or a child's contribution (rl.algorithms.advantages.credit). None marks
what could not be graded: it is left out of all statistics and its advantage is 0, which is no signal.
"""

import math
from collections.abc import Callable, Sequence

Values = Sequence[Sequence[float | None]]
"""[P][G] values; None: ungraded."""

Estimator = Callable[[Values], list[list[float]]]
"""[P][G] values to [P][G] advantages."""

EPS = 1e-6
"""Added to every standard deviation that divides, as in the reference implementation of verl."""


def graded(values: Sequence[float | None]) -> list[float]:
    """The values that are not None."""
    return [value for value in values if value is not None]


def mean(values: Sequence[float]) -> float:
    """[N] arithmetic mean; N is at least 1.

    It is kept within the range of the values: rounding may put the mean of equal values outside (3 x 0.1),
    and that rest over a standard deviation of almost 0 would be a signal made of nothing.
    """
    return min(max(math.fsum(values) / len(values), min(values)), max(values))


def std(values: Sequence[float]) -> float:
    """[N] unbiased standard deviation (denominator N - 1); 0 when there are fewer than two.

    Example: [2, 0] has the mean 1 and the standard deviation sqrt((1 + 1) / 1) = 1.414.
    """
    if len(values) < 2:
        return 0.0
    middle = mean(values)
    return math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1))


def centred(values: Sequence[float | None]) -> list[float | None]:
    """[G] each value minus the mean of its group; None where there is no value, or no second one to compare
    it with.

    Example: [1, 0, None] becomes [0.5, -0.5, None], and [1, None] becomes [None, None].
    """
    found = graded(values)
    if len(found) < 2:
        return [None] * len(values)
    middle = mean(found)
    return [None if value is None else value - middle for value in values]
