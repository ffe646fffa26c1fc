"""Advantages whose scale comes from the whole batch, not from one group.

    batch_std               A = (R - batch mean) / (std of R + eps)
                            REINFORCE++ (arXiv 2501.03262)
    group_mean_batch_std    A = (R - group mean) / (std of (R - group mean) + eps)
                            its variant with a baseline, and the batch-level normalisation of ScaleRL
                            (arXiv 2510.13786)
    group_mean_reward_std   A = (R - group mean) / (std of R + eps)
                            PAPO of Native Parallel Reasoner (arXiv 2512.07461)

Every std is over the graded samples of the batch (unbiased, denominator N - 1), and each sample counts once;
implementations that whiten token by token weigh long samples more. The last two differ where problems differ:
the std of R contains how hard each problem is, the std of the centred rewards does not. A group's own std
would raise a nearly solved problem, one failure in sixteen, to the scale of an even one; these do not.

Example: groups [1, 0] and [1, 1]. The batch mean is 0.75, the std of R is sqrt(0.75 / 3) = 0.5, the centred
rewards are 0.5, -0.5, 0, 0 with the std sqrt(0.5 / 3) = 0.408:
    batch_std               [0.5, -1.5], [0.5, 0.5]
    group_mean_batch_std    [1.225, -1.225], [0, 0]
    group_mean_reward_std   [1, -1], [0, 0]
"""

from collections.abc import Sequence

from rl.algorithms.advantages.estimator import EPS, Values, centred, graded, mean, std


def batch_std(values: Values) -> list[list[float]]:
    """[P][G] advantages against the mean of the batch; a group of one has them too. All 0 when the batch has
    fewer than two graded samples.
    """
    found = _flat(values)
    if len(found) < 2:
        return [[0.0] * len(group) for group in values]
    middle, divisor = mean(found), std(found) + EPS
    return [[0.0 if value is None else (value - middle) / divisor for value in group] for group in values]


def group_mean_batch_std(values: Values) -> list[list[float]]:
    """[P][G] advantages; 0 in a group with fewer than two graded samples, which the std leaves out."""
    differences = [centred(group) for group in values]
    return _divided(differences, std(_flat(differences)) + EPS)


def group_mean_reward_std(values: Values) -> list[list[float]]:
    """[P][G] advantages; 0 in a group with fewer than two graded samples, whose reward the std still
    counts.
    """
    return _divided([centred(group) for group in values], std(_flat(values)) + EPS)


def _divided(differences: Sequence[Sequence[float | None]], divisor: float) -> list[list[float]]:
    return [[0.0 if value is None else value / divisor for value in group] for group in differences]


def _flat(values: Values) -> list[float]:
    """The graded values of all groups."""
    return [value for group in values for value in graded(group)]
