"""Early rejection over tau, read off chains that were sampled to their ends: what it would save, and lose.

Each problem has N chains. As in the protocol `early_rejection`, a chain that has ended by its token tau is
kept; of the others those go on whose beginnings of tau tokens have the best scores
(`rollout.protocols.selection`). Then

    saved     tokens that are not sampled, of all sampled tokens
    lost      right chains that are rejected, of all right chains
    unsolved  problems whose right chains are all rejected, of the problems that have one

Intervals are 95%, by bootstrap over problems.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rl.evaluation.bootstrap import Interval, ratio_interval
from rollout.protocols.selection.early_rejection import kept

_RESAMPLES, _SEED = 2_000, 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """One whole chain, and what a scorer says of its beginning."""

    tokens: int
    right: bool
    value: float
    """Score of its first tau tokens, 0 to 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """A ratio with its interval."""

    share: float
    interval: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """The three figures of the module's docstring at one tau; None where no chain is right."""

    saved: Share
    lost: Share | None
    unsolved: Share | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Counts:
    """One problem: tokens and right chains, before rejection and rejected."""

    tokens: int
    saved: int
    right: int
    lost: int


def curve_point(problems: Sequence[Sequence[Chain]], tau: int, keep: float, floor: float = 0.0) -> Point:
    """The point of the curve at `tau`: [P] problems of chains each, of which the share `keep` goes on."""
    counts = [_count(chains, tau, keep, floor) for chains in problems]
    return Point(
        saved=_share([(each.saved, each.tokens) for each in counts]),
        lost=_share_or_none([(each.lost, each.right) for each in counts]),
        unsolved=_share_or_none(
            [(int(each.right > 0 and each.lost == each.right), int(each.right > 0)) for each in counts]
        ),
    )


def _count(chains: Sequence[Chain], tau: int, keep: float, floor: float) -> _Counts:
    growing = [chain for chain in chains if chain.tokens > tau]
    going = kept([chain.value for chain in growing], keep, floor) if growing else []
    rejected = [chain for place, chain in enumerate(growing) if place not in going]
    return _Counts(
        tokens=sum(chain.tokens for chain in chains),
        saved=sum(chain.tokens - tau for chain in rejected),
        right=sum(chain.right for chain in chains),
        lost=sum(chain.right for chain in rejected),
    )


def _share_or_none(pairs: Sequence[tuple[int, int]]) -> Share | None:
    """None where nothing is counted; else the share, over the problems that count."""
    counted = [pair for pair in pairs if pair[1]]
    return _share(counted) if counted else None


def _share(pairs: Sequence[tuple[int, int]]) -> Share:
    part, whole = np.array(pairs, dtype=np.float64).T
    interval = ratio_interval(part, whole, samples=_RESAMPLES, seed=_SEED)
    return Share(share=float(part.sum() / whole.sum()), interval=interval)
