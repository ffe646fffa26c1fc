"""Accuracy at equal cost: protocols whose episodes cost differently, compared at one mean cost.

A protocol is measured in several settings (chains, widths, token limits), each a point (mean cost, accuracy).
Between the costs of two settings its accuracy is the linear interpolation, which a random choice between the
two would reach. Outside the measured range there is no figure: extrapolation would be a guess. Intervals come
from a paired bootstrap over problems that recomputes costs and accuracies in every resample.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rl.evaluation.bootstrap import Interval, Values, percentiles, resampled_means


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One setting of one protocol on N problems; all settings have the same problems in the same order."""

    cost: Values
    """[N] mean cost of each problem's episodes, in tokens."""
    correct: Values
    """[N] share of right answers for each problem."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AtCost:
    """Accuracy of a protocol at one mean cost."""

    cost: float
    accuracy: float
    interval: Interval
    """95% bootstrap interval of the accuracy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Accuracy of one setting minus that of a reference protocol at the same mean cost."""

    points: float
    """Difference in percentage points."""
    interval: Interval
    """95% bootstrap interval of `points`, paired by problem."""

    @property
    def verdict(self) -> str:
        """ "loses", "wins", or "" where the interval holds 0."""
        return "loses" if self.interval[1] < 0 else "wins" if self.interval[0] > 0 else ""


def at_cost(costs: Values, accuracies: Values, cost: float) -> float | None:
    """Interpolated accuracy of settings [K] at a mean cost; None outside their range.

    Example: settings (100, 0.2) and (200, 0.4) give 0.3 at 150 and None at 250. Among settings of equal cost
    the best one counts.
    """
    order = np.lexsort((accuracies, costs))
    costs, accuracies = costs[order], accuracies[order]
    if not costs[0] <= cost <= costs[-1]:
        return None
    return float(np.interp(cost, costs, accuracies))


def equal_cost(
    settings: Sequence[Setting], costs: Sequence[float], *, samples: int, seed: int
) -> list[AtCost | None]:
    """[len(costs)] accuracy of a protocol at each mean cost; None outside the range of its settings."""
    assert settings and len({len(setting.cost) for setting in settings}) == 1, "one set of problems"
    count = len(settings)
    columns = [setting.cost for setting in settings] + [setting.correct for setting in settings]
    values = np.stack(columns, axis=1)
    means = values.mean(axis=0)
    drawn = resampled_means(values, samples=samples, seed=seed)
    found: list[AtCost | None] = []
    for cost in costs:
        accuracy = at_cost(means[:count], means[count:], cost)
        if accuracy is None:
            found.append(None)
            continue
        # Where all settings of a resample cost less (or more), its dearest (cheapest) one counts.
        spread = [
            at_cost(row[:count], row[count:], float(np.clip(cost, row[:count].min(), row[:count].max())))
            for row in drawn
        ]
        interval = percentiles(np.array(spread, dtype=np.float64))
        found.append(AtCost(cost=cost, accuracy=accuracy, interval=interval))
    return found


def against(setting: Setting, reference: Sequence[Setting], *, samples: int, seed: int) -> Difference | None:
    """One setting against a protocol of several, at the setting's own mean cost; None outside their range.

    Each resample of the problems has its own costs: the reference is read off at that of the setting in it.
    """
    columns = [setting.cost, setting.correct, *(each.cost for each in reference)]
    values = np.stack([*columns, *(each.correct for each in reference)], axis=1)
    cost, accuracy, *means = values.mean(axis=0)
    count = len(reference)
    found = at_cost(np.array(means[:count]), np.array(means[count:]), float(cost))
    if found is None:
        return None
    spread = []
    for row in resampled_means(values, samples=samples, seed=seed):
        costs = row[2 : 2 + count]
        at = at_cost(costs, row[2 + count :], float(np.clip(row[0], costs.min(), costs.max())))
        spread.append(row[1] - at if at is not None else np.nan)
    low, high = percentiles(100 * np.array(spread, dtype=np.float64))
    return Difference(points=100 * float(accuracy - found), interval=(low, high))
