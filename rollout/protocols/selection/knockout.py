"""A knockout tournament of answers (arXiv 2411.19477): pairs are compared, winners go on. Pure functions.

Neighbours meet; of an odd number the last goes on without a comparison. Each pair is compared K times, every
other time in the other order, since judges prefer a place; more wins decide, and a draw is the first's.

Example: five, and whoever has the larger number is better: 3 1, 4 2, 5 -> 3, 4, 5 -> 4, 5 -> 5.

With probability p_gen that a candidate is right and p_comp > 1/2 that a comparison of a right one and a wrong
one is won by the right one, the paper bounds the failure of N candidates and K comparisons by
(1 - p_gen)^N + ceil(log2 N) e^(-2 K (p_comp - 1/2)^2).
"""

import math
from collections.abc import Callable, Sequence

Pair = tuple[int, int]


def pairs(field: Sequence[int]) -> list[Pair]:
    """The pairs of a round: neighbours."""
    return list(zip(field[::2], field[1::2], strict=False))


def shown(pair: Pair, comparison: int) -> Pair:
    """The order in which the `comparison`-th judge of a pair sees it."""
    return pair if comparison % 2 == 0 else (pair[1], pair[0])


def won(pair: Pair, choices: Sequence[int | None]) -> int:
    """The winner of a pair. `choices`: whom each judge chose, the first (0) or the second (1) that it was
    shown; None where it did not say.
    """
    chosen = [shown(pair, number)[choice] for number, choice in enumerate(choices) if choice is not None]
    return pair[1] if chosen.count(pair[1]) > chosen.count(pair[0]) else pair[0]


def next_field(field: Sequence[int], winner: Callable[[Pair], int]) -> list[int]:
    """Those that are left after a round."""
    rest = [field[-1]] if len(field) % 2 else []
    return [*map(winner, pairs(field)), *rest]


def failure_bound(candidates: int, comparisons: int, right: float, better: float) -> float:
    """The bound above, at most 1. `right`: p_gen, `better`: p_comp, above 1/2.

    Example: 4 candidates, 8 comparisons, 0.5 and 0.9: 0.0625 + 2 e^-2.56 = 0.2171.
    """
    lost = math.ceil(math.log2(candidates)) * math.exp(-2 * comparisons * (better - 0.5) ** 2)
    return min(1.0, (1 - right) ** candidates + lost)
