"""The order in which best-first search (A*) takes partial solutions from its queue. Pure function.

Scores v_k are probabilities that a step is right, so a path costs -ln v_k a step, and the cost of the whole
is estimated from how far it is:

    g = sum_k -ln v_k                       what the path has cost
    h = g / d (D - d), d < D; else 0        what is left to D steps, at the same price a step
    f = g + h, and f = g for a path that has ended

A*-decoding (arXiv 2505.13672) gives a process reward model as the heuristic; its formula was not available,
so this one is Braid's: with h = 0 every step makes a path look worse, and the search would run in breadth.

Example, D = 4: scores 0.5, 0.5 give g = 1.386, h = 1.386, f = 2.773; one step of 0.4 gives f = 4 x 0.916 =
3.665. The longer path comes first, although its g is larger.
"""

import math
from collections.abc import Sequence

_LEAST = 1e-6
"""Scores below count as this one, so that a cost is finite."""


def estimated_cost(scores: Sequence[float], expected_steps: int, *, ended: bool) -> float:
    """f of a path with at least one score; lower is better."""
    spent = math.fsum(-math.log(max(score, _LEAST)) for score in scores)
    if ended:
        return spent
    return spent / len(scores) * max(expected_steps, len(scores))
