"""A sample against the mean of the others: REINFORCE leave-one-out (RLOO, arXiv 2402.14740).

    A_i = R_i - (1 / (G - 1)) * sum over j != i of R_j  =  G / (G - 1) * (R_i - mean)

The baseline does not contain the sample's own reward, so the gradient is unbiased. It is the advantage of
Dr.GRPO times a factor that depends only on how many samples of the group were graded.

Example: rewards [1, 0, 0.5] give [1 - 0.25, 0 - 0.75, 0.5 - 0.5] = [0.75, -0.75, 0].
"""

from rl.algorithms.advantages.estimator import Values, centred, graded


def leave_one_out(values: Values) -> list[list[float]]:
    """[P][G] advantages; 0 in a group with fewer than two graded samples."""
    advantages: list[list[float]] = []
    for group in values:
        count = len(graded(group))
        advantages.append([0.0 if value is None else value * count / (count - 1) for value in centred(group)])
    return advantages
