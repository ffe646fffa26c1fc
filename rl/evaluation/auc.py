"""Area under the ROC curve: how well scores separate right from wrong."""

from collections.abc import Sequence

import numpy as np


def auc(scores: Sequence[float], labels: Sequence[float]) -> float | None:
    """Share of the pairs of a right and a wrong example in which the right one has the higher score; a tie
    counts half (Mann-Whitney U / (n m)). Labels of 1/2 and more are right. None without such a pair.

    Example: scores 0.9 (right), 0.4 (right), 0.4 (wrong), 0.1 (wrong): (1 + 1 + 0.5 + 1) / 4 = 0.875.
    """
    right = np.sort([score for score, label in zip(scores, labels, strict=True) if label >= 0.5])
    wrong = np.sort([score for score, label in zip(scores, labels, strict=True) if label < 0.5])
    if not len(right) or not len(wrong):
        return None
    below = np.searchsorted(wrong, right, side="left").sum()
    ties = np.searchsorted(wrong, right, side="right").sum() - below
    return float((below + 0.5 * ties) / (len(right) * len(wrong)))
