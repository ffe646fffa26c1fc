"""Splitting a forest by a token budget, and assigning the parts to ranks. Pure Python.

A part is a run of neighbouring leaves. Cutting between two leaves repeats exactly the prefix that they
share, so the cheapest cuts are found by dynamic programming over the leaves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TypeVar

from data.forests.forest import Forest, common_prefix, depth_first, pairs, unique_tokens
from data.forests.rows import Row

R = TypeVar("R", bound=Row)
PASS_TOKENS = 64
"""Cost of one more part in tokens, so that fewer, fuller parts are preferred."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CostModel:
    """Seconds of a forward and backward pass: `linear` a token and `quadratic` a query-key pair (the two
    terms of Zeppelin, arXiv 2509.21841). `scripts/bench_learner.py --growth` measures both.
    """

    linear: float = 1.0
    quadratic: float = 0.0

    def seconds(self, forest: Forest) -> float:
        """Estimated seconds of one forest."""
        return self.linear * len(forest) + self.quadratic * pairs(forest)


def split_rows(rows: Sequence[R], budget: int) -> list[list[R]]:
    """Parts whose forests hold at most `budget` unique tokens, with as few tokens repeated as possible.

    A row that is longer than the budget is a part of its own.
    """
    if not rows:
        return []
    order = [rows[index] for index in depth_first(rows)]
    if sum(map(len, order)) <= budget:
        return [order]
    shared = [0, *(common_prefix(a.ids, b.ids) for a, b in pairwise(order))]
    fresh = [0, *accumulate(len(row) - same for row, same in zip(order, shared, strict=True))]
    best = [0.0]
    """Cheapest way to cut the first j leaves; the last part of it begins at `first[j]`."""
    first = [0]
    for stop in range(1, len(order) + 1):
        choices = []
        for start in range(stop - 1, -1, -1):
            size = fresh[stop] - fresh[start] + shared[start]
            if size > budget and start < stop - 1:
                break
            choices.append((best[start] + shared[start] + PASS_TOKENS, start))
        cost, start = min(choices)
        best.append(cost)
        first.append(start)
    parts: list[list[R]] = []
    stop = len(order)
    while stop:
        parts.append(order[first[stop] : stop])
        stop = first[stop]
    return parts[::-1]


def first_fit(parts: Sequence[Sequence[R]], budget: int) -> list[list[R]]:
    """Parts put together, in their order, into forests of at most `budget` tokens; what they share with each
    other makes a forest smaller still.
    """
    bins: list[list[R]] = []
    free: list[int] = []
    for part in parts:
        size = unique_tokens(part)
        place = next((place for place, room in enumerate(free) if room >= size), None)
        if place is None:
            bins.append([])
            free.append(budget)
            place = len(bins) - 1
        bins[place] += part
        free[place] -= size
    return bins


def deal(costs: Sequence[float], ranks: int) -> list[list[int]]:
    """[ranks] indices of the parts each rank computes: the dearest first, always to the least loaded."""
    loads = [0.0] * ranks
    dealt: list[list[int]] = [[] for _ in range(ranks)]
    for index in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        rank = min(range(ranks), key=lambda r: (loads[r], r))
        loads[rank] += costs[index]
        dealt[rank].append(index)
    return dealt
