"""Overlap of time spans, and the least-squares fit of `rl.simulation.measure`."""

from copy import copy
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


class Coverage:
    """Number of intervals that cover a moment: mean and maximum over many time spans at once."""

    def __init__(self, begins: Array, ends: Array, *, at_most: float = np.inf) -> None:
        times = np.concatenate([begins, ends])
        change = np.concatenate([np.ones(len(begins)), -np.ones(len(ends))])
        order = np.argsort(times, kind="stable")
        self._times = times[order]
        self._count(np.minimum(np.cumsum(change[order]), at_most))

    def mean(self, begins: Array, ends: Array) -> Array:
        """[N] over each begin..end; 0 where that is empty."""
        length = ends - begins
        return np.divide(
            self._until(ends) - self._until(begins), length, out=np.zeros_like(length), where=length > 0
        )

    def mean_by_steps(self, begins: Array, ends: Array, fixed: float, each: float) -> Array:
        """[N] the mean over steps of `fixed + each * count` seconds rather than over time, in which those
        beside many count for more.

        Example: 3 s at a count of 2 and then 1 s at 0, steps of 1 + count seconds: one step each, so 1.
        """
        a_second = self._mapped(1 / (fixed + each * self._counts))
        counted = self._mapped(self._counts / (fixed + each * self._counts))
        return counted.mean(begins, ends) / a_second.mean(begins, ends)

    def most(self, begins: Array, ends: Array) -> Array:
        """[N] largest within each begin..end."""
        first = np.maximum(np.searchsorted(self._times, begins, side="right") - 1, 0)
        last = np.maximum(np.searchsorted(self._times, ends, side="left") - 1, first)
        return np.array([self._counts[a : b + 1].max() for a, b in zip(first, last, strict=True)])

    def above(self, level: float) -> list[tuple[float, float]]:
        """Stretches of time in which the count is above `level`."""
        high = np.concatenate([[False], self._counts > level, [False]])
        changes = np.flatnonzero(high[1:] != high[:-1])
        return [(float(self._times[a]), float(self._times[b])) for a, b in changes.reshape(-1, 2)]

    def _mapped(self, counts: Array) -> "Coverage":
        """The same moments, with other counts."""
        made = copy(self)
        made._count(counts)
        return made

    def _count(self, counts: Array) -> None:
        self._counts = counts
        self._integral = np.concatenate([[0.0], np.cumsum(counts[:-1] * np.diff(self._times))])

    def _until(self, moments: Array) -> Array:
        if not len(self._times):
            return np.zeros_like(moments)
        index = np.searchsorted(self._times, moments, side="right") - 1
        safe = np.maximum(index, 0)
        value = self._integral[safe] + self._counts[safe] * (moments - self._times[safe])
        return np.where(index >= 0, value, 0.0)


def longer(contention: float, overlap: Array) -> Array:
    """How many times as long something takes that shares its cores for this share of that time.

    Example: 2 of 4 seconds shared at a contention of 2 are 2 + 1 = 3 seconds of work: 4/3.
    """
    return 1 / (1 - overlap * (1 - 1 / contention))


def two_parts(first: Array, second: Array, whole: Array) -> tuple[float, float, float]:
    """Least squares of whole = a * first + b * second with a, b >= 0. -> (squared error, a, b)."""
    columns = np.stack([first, second], axis=1)
    candidates = [np.linalg.lstsq(columns.T @ columns, columns.T @ whole, rcond=None)[0]]
    if candidates[0].min() < 0:
        alone = columns.T @ whole / (columns**2).sum(axis=0)
        candidates = [np.array([alone[0], 0.0]), np.array([0.0, alone[1]])]
    errors = [float(((columns @ found - whole) ** 2).sum()) for found in candidates]
    a, b = candidates[int(np.argmin(errors))]
    return min(errors), float(a), float(b)
