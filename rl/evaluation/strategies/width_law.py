"""Width law: how long the first of n samples takes, foretold from the lengths of single ones.

With the lengths of N samples, sorted ascending as x_1 .. x_N, the mean of the least of n is, without any
assumption,
    E[min_n] = sum_i x_i C(N - i, n - 1) / C(N, n)
and under a shifted exponential law, x_0 + 1 / (n lambda), with x_0 the least length and 1 / lambda the mean
above it, both corrected for N: the speed-up is then at most 1 + 1 / (x_0 lambda), whatever n. Source: times
that restarted search takes (SAT solvers), and the unbiased estimators of the two-parameter exponential
distribution.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, inf

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class ShiftedExponential:
    """Lengths x_0 + Exp(lambda)."""

    least: float
    """The least length x_0, in tokens."""
    scale: float
    """Mean 1 / lambda above it, in tokens."""

    def first_of(self, n: int) -> float:
        """Mean length of the first of n."""
        return self.least + self.scale / n

    @property
    def most_speed_up(self) -> float:
        """Speed-up that no width exceeds; infinite when x_0 is 0."""
        return inf if self.least <= 0 else 1 + self.scale / self.least


@dataclass(frozen=True, kw_only=True, slots=True)
class Width:
    """The law against what was measured, at one width; means over problems, in critical tokens."""

    n: int
    measured: float
    """Mean of the least of n samples that the law has not seen."""
    empirical: float
    """Foretold without an assumption, from the other samples."""
    exponential: float
    """Foretold by the shifted exponential law, from the same."""


def mean_first(lengths: Sequence[float], n: int) -> float:
    """E[min_n] over all draws of n of the lengths.

    Example: of 1, 2, 6 two: the least is 1, 1 or 2: 4/3.
    """
    assert 1 <= n <= len(lengths), f"first of {n} among {len(lengths)}"
    ordered = sorted(lengths)
    count = len(ordered)
    return sum(x * comb(count - i, n - 1) for i, x in enumerate(ordered, start=1)) / comb(count, n)


def fit_exponential(lengths: Sequence[float]) -> ShiftedExponential:
    """The law of at least two lengths: scale N / (N - 1) (mean - least), x_0 = least - scale / N.

    Example: 10, 20, 30: scale 3/2 * 10 = 15, x_0 = 10 - 5 = 5; the mean is 20 as it was.
    """
    count, least = len(lengths), min(lengths)
    assert count >= 2, "a law of two numbers takes at least two lengths"
    scale = count / (count - 1) * (sum(lengths) / count - least)
    return ShiftedExponential(least=least - scale / count, scale=scale)


def width_law(problems: Sequence[Sequence[float]]) -> list[Width]:
    """The law at widths 1, 2, 4 ... up to half of each problem's samples: fitted on the first half of them,
    measured on the second. `problems`: critical tokens [N >= 4] of the samples of each; fewer gives [].
    """
    half = min((len(lengths) for lengths in problems), default=0) // 2
    found = []
    n = 1
    while half >= 2 and n <= half:
        laws = [fit_exponential(lengths[:half]) for lengths in problems]
        found.append(
            Width(
                n=n,
                measured=float(np.mean([mean_first(lengths[half:], n) for lengths in problems])),
                empirical=float(np.mean([mean_first(lengths[:half], n) for lengths in problems])),
                exponential=float(np.mean([law.first_of(n) for law in laws])),
            )
        )
        n *= 2
    return found
