"""Group-relative advantages: a sample is compared with its siblings of the same problem.

    scale "std":  A_i = (R_i - mean) / (std + eps)     GRPO (arXiv 2402.03300, section 4.1.2)
    scale "none": A_i = R_i - mean                     Dr.GRPO (arXiv 2503.20783), P-GRPO (arXiv 2512.07843)
`std` is the unbiased one (denominator G - 1), as in the reference implementation of verl.

Example: rewards [1, 0, 1, 0] have the mean 0.5 and the std sqrt(4 * 0.25 / 3) = 0.577; "std" gives
[0.866, -0.866, 0.866, -0.866] and "none" [0.5, -0.5, 0.5, -0.5].
"""

from collections.abc import Sequence
from typing import Literal

from rl.algorithms.advantages.estimator import EPS, Values, centred, graded, std

Scale = Literal["std", "none"]


def group_advantages(rewards: Sequence[float | None], scale: Scale, *, eps: float = EPS) -> list[float]:
    """[G] advantages. Ungraded samples (None) are left out of the statistics and get 0, no signal;
    so does the only graded sample of a group.
    """
    divisor = std(graded(rewards)) + eps if scale == "std" else 1.0
    return [0.0 if value is None else value / divisor for value in centred(rewards)]


def group_std(values: Values) -> list[list[float]]:
    """[P][G] advantages of GRPO, each group by itself."""
    return [group_advantages(group, "std") for group in values]


def group_mean(values: Values) -> list[list[float]]:
    """[P][G] advantages of Dr.GRPO and P-GRPO, each group by itself."""
    return [group_advantages(group, "none") for group in values]
