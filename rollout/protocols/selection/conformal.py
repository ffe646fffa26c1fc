"""Conformal acceptance of a drafted step, as in ATTS (arXiv 2509.15148). Pure functions.

Is a step with score s as good as the steps with the scores c_1 .. c_n, or worse? If it is as good (all n + 1
scores are exchangeable), its place among them is uniform, so that

    p = (1 + #{i : c_i <= s}) / (n + 1)

is at most alpha with probability floor(alpha (n + 1)) / (n + 1) (less with ties, which make p larger), which
is at most alpha. Rejecting where p <= alpha therefore rejects a good step with probability at most alpha, on
average over calibration scores and steps, whatever the scorer's scale; a scorer that orders steps badly only
misses bad ones. With fewer than 1 / alpha - 1 scores nothing is rejected.

Example: s = 0.5 among 0.2, 0.4, 0.6, 0.8 has p = 3 / 5. With 19 scores and alpha = 0.1 a step is rejected
that scores below the second smallest: 2 / 20.
"""

import math
from collections.abc import Sequence


def p_value(score: float, calibration: Sequence[float]) -> float:
    """p of the module's docstring, from 1 / (n + 1) to 1; 1 without calibration scores."""
    return (1 + sum(each <= score for each in calibration)) / (len(calibration) + 1)


def threshold(calibration: Sequence[float], alpha: float) -> float:
    """The score below which p <= alpha, 0 < alpha < 1: the floor(alpha (n + 1))-th smallest; 0 if too few."""
    # More by an error of the last bit, which would take 0.1 x 30 for less than 3.
    rank = math.floor(alpha * (len(calibration) + 1) + 1e-9)
    return sorted(calibration)[rank - 1] if rank else 0.0


def fewest_scores(alpha: float) -> int:
    """The fewest calibration scores that can reject anything: the least n with alpha (n + 1) >= 1."""
    return math.ceil(1 / alpha - 1e-9) - 1
