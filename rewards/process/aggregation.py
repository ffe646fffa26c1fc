"""Rewards of single steps, from the scores of a line of thought's steps (data.steps.aggregates has their one
value).

A reward for each step, credited to the tokens before its end (rl.algorithms.advantages.placed):
    each        s_k                 process supervision of GRPO (arXiv 2402.03300); more steps get more
    difference  s_k - s_(k-1)       progress; sums to s_n - s_0 however many steps there are; where an
                                    estimator subtracts the mean step, their number counts again
    pure        w_k s_k             w = softmax(-s / T): nearly all weight on the worst step, so that the
                                    sum is the minimum when T goes to 0 (PURE, arXiv 2504.15275)

Example: scores 0.9, -0.8, 0.5 and T = 0.1. softmax(-9, 8, -5) = (4.14e-8, 0.9999977, 2.26e-6); "pure" gives
3.7e-8, -0.799998 and 1.13e-6, which sum to -0.799997. With s_0 = 0 "difference" gives 0.9, -1.7, 1.3: 0.5.
"""

import math
from collections.abc import Sequence
from itertools import pairwise


def pure_weights(scores: Sequence[float], temperature: float) -> list[float]:
    """[n] softmax of -score / temperature; the worst step has the largest weight."""
    if not scores:
        return []
    worst = min(scores)
    powers = [math.exp((worst - score) / temperature) for score in scores]
    total = math.fsum(powers)
    return [power / total for power in powers]


def pure_rewards(scores: Sequence[float], temperature: float) -> list[float]:
    """[n] the reward of each step in PURE's form of the minimum."""
    weights = pure_weights(scores, temperature)
    return [weight * score for weight, score in zip(weights, scores, strict=True)]


def differences(scores: Sequence[float], before: float) -> list[float]:
    """[n] what each step added; `before`: the score of what came before the first."""
    return [after - earlier for earlier, after in pairwise((before, *scores))]
