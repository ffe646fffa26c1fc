"""Difficulty-adaptive allocation: how many samples a problem gets depends on how hard it looks.

A few samples are drawn first; the share that agrees with their majority puts the problem into a bin. For each
bin the number of samples is chosen on validation problems so that accuracy is highest at a mean cost that is
not exceeded. Source: compute-optimal scaling (Snell et al., arXiv 2408.03314), which bins by the pass rate of
the model; agreement needs no gold answer, so it can be had for problems whose answer nobody knows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from rl.evaluation.strategies.choices import majority
from rl.evaluation.strategies.sample import Sample

EDGES = (0.375, 0.75)
"""Agreement below the first edge is hard, from the last on it is easy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """What one setting does for the problems of one bin, on validation."""

    cost: float
    """Mean cost of a problem."""
    accuracy: float
    """Share of these problems solved."""


def agreement(samples: Sequence[Sample]) -> float:
    """Share of the samples that give the majority's answer; 0 when none answers."""
    winner = majority(samples).winner
    if winner is None:
        return 0.0
    return sum(sample.answer == samples[winner].answer for sample in samples) / len(samples)


def bin_of(share: float, edges: Sequence[float] = EDGES) -> int:
    """Number of the bin, 0 the hardest."""
    return sum(share >= edge for edge in edges)


def allocate(
    bins: Sequence[Sequence[Option]], shares: Sequence[float], budget: float
) -> tuple[int, ...] | None:
    """[bins] index of the option of each bin with the highest accuracy at a mean cost of at most `budget`.

    Args:
        bins: options of each bin, as measured on validation.
        shares: share of the problems in each bin.

    None when even the cheapest options cost more. All combinations are tried: a few bins of a few options. Of
    equals the cheapest is taken.
    """
    best: tuple[float, float, tuple[int, ...]] | None = None
    for picked in product(*(range(len(options)) for options in bins)):
        cost = sum(share * options[at].cost for share, options, at in zip(shares, bins, picked, strict=True))
        right = sum(
            share * options[at].accuracy for share, options, at in zip(shares, bins, picked, strict=True)
        )
        if cost <= budget + 1e-9 and (best is None or (right, -cost) > best[:2]):
            best = right, -cost, picked
    return None if best is None else best[2]
