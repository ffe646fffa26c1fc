"""Early rejection (arXiv 2508.01969): which partial texts are finished, by the scores of their beginnings.

The published bound on losing the best of N, when partial scores err by a Gaussian of deviation sigma and the
best leads by delta:  P <= (N - 1) exp(-delta^2 / (4 sigma^2)).
"""

import math
from collections.abc import Sequence

from rollout.protocols.selection.ranking import best


def kept(values: Sequence[float], share: float, floor: float) -> list[int]:
    """Indices of the texts that go on, ascending: the best ceil(share n), and of those the ones that reach
    `floor`, but always the best one.

    Example: half of 0.2, 0.9, 0.6, 0.4 are 1 and 2; with floor 0.7 only 1.
    """
    chosen = best(values, max(1, math.ceil(share * len(values))))
    return sorted(index for index in chosen if values[index] >= floor or index == chosen[0])


def loss_bound(texts: int, lead: float, deviation: float) -> float:
    """The bound above on the probability that the best of `texts` is rejected, at most 1.

    Example: 4 texts, lead 0.4, deviation 0.1: 3 exp(-4) = 0.0549.
    """
    if deviation == 0.0:
        return 0.0 if lead > 0 else 1.0
    return min(1.0, (texts - 1) * math.exp(-(lead**2) / (4 * deviation**2)))
