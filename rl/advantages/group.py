"""Group-relative advantages: a sample is compared with its siblings of the same problem.

    scale "std":  A_i = (R_i - mean) / (std + eps)     GRPO (arXiv 2402.03300, section 4.1.2)
    scale "none": A_i = R_i - mean                     Dr.GRPO (arXiv 2503.20783), P-GRPO (arXiv 2512.07843)
`std` is the unbiased one (denominator G - 1), as in the reference implementation of verl.
"""

import math
from collections.abc import Sequence
from typing import Literal

Scale = Literal["std", "none"]


def group_advantages(rewards: Sequence[float | None], scale: Scale, *, eps: float = 1e-6) -> list[float]:
    """[G] advantages. Ungraded samples (None) are left out of the statistics and get 0: no signal, not a
    bad one.
    """
    graded = [reward for reward in rewards if reward is not None]
    if len(graded) < 2:
        return [0.0] * len(rewards)
    mean = math.fsum(graded) / len(graded)
    variance = math.fsum((reward - mean) ** 2 for reward in graded) / (len(graded) - 1)
    divisor = math.sqrt(variance) + eps if scale == "std" else 1.0
    return [0.0 if reward is None else (reward - mean) / divisor for reward in rewards]


def has_signal(rewards: Sequence[float | None]) -> bool:
    """Whether any advantage of the group differs from zero."""
    graded = [reward for reward in rewards if reward is not None]
    return len(graded) >= 2 and max(graded) - min(graded) > 1e-9
