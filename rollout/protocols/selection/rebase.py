"""REBASE (arXiv 2408.00724): how many continuations each leaf of a search gets, by its reward.

Leaves are taken from the best to the worst, with W places left and the leaves j that are left:

    n_i = ceil(W e^(r_i / T) / sum_j e^(r_j / T)),   then W <- W - n_i

So all places are given away, the better leaf first; the worst may get none. T -> 0 gives the best leaf all, a
large T gives all the same.

Example: rewards 0.9, 0.7, 0.1, T = 0.2, W = 8. Weights relative to the best: 1, e^-1 = 0.3679, e^-4 = 0.0183.
n = ceil(8 / 1.3862) = 6; then ceil(2 x 0.3679 / 0.3862) = ceil(1.905) = 2; then none is left: 6, 2, 0.
"""

import math
from collections.abc import Sequence

_ROUNDING = 1e-9
"""A share above a whole number by less than this is that number: equal rewards share equally."""


def shares(rewards: Sequence[float], width: int, temperature: float) -> list[int]:
    """[n] continuations of each leaf; they sum to `width` (0 for no leaves)."""
    found = [0] * len(rewards)
    if not rewards:
        return found
    top = max(rewards)
    weights = [math.exp((reward - top) / temperature) for reward in rewards]
    order = sorted(range(len(rewards)), key=lambda index: -rewards[index])
    left = width
    for place, index in enumerate(order):
        rest = math.fsum(weights[other] for other in order[place:])
        # Far below the best all weights are 0: then nothing was left before.
        share = left * weights[index] / rest if rest else 0.0
        found[index] = min(left, math.ceil(share - _ROUNDING))
        left -= found[index]
    return found
