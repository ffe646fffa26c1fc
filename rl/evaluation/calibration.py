"""Calibration of scores: of the steps that are given 0.8, is a share of 0.8 right?

Source: Guo et al., On Calibration of Modern Neural Networks (arXiv 1706.04599), section 2: bins of equal
width and the expected calibration error, sum over bins of n / N * |mean label - mean score|.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Bin:
    """Steps whose score lies in low <= score < high; the last bin holds 1, too."""

    low: float
    high: float
    count: int
    mean_score: float
    """Mean score; 0 of an empty bin."""
    mean_label: float
    """Mean label, the share that is right when labels are hard; 0 of an empty bin."""

    @property
    def gap(self) -> float:
        """Distance of the mean label from the mean score."""
        return abs(self.mean_label - self.mean_score)


def reliability(scores: Sequence[float], labels: Sequence[float], bins: int = 10) -> list[Bin]:
    """The bins of a reliability diagram. Scores and labels are in [0, 1], equally many; labels may be soft.

    Raises:
        ValueError: they are not.
    """
    if len(scores) != len(labels) or not all(0 <= value <= 1 for value in (*scores, *labels)):
        raise ValueError("calibration takes one label in [0, 1] for each score in [0, 1]")
    members: list[list[tuple[float, float]]] = [[] for _ in range(bins)]
    for score, label in zip(scores, labels, strict=True):
        members[min(int(score * bins), bins - 1)].append((score, label))
    return [
        Bin(
            low=place / bins,
            high=(place + 1) / bins,
            count=len(held),
            mean_score=sum(score for score, _ in held) / max(1, len(held)),
            mean_label=sum(label for _, label in held) / max(1, len(held)),
        )
        for place, held in enumerate(members)
    ]


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """ECE of the bins; 0 when they are empty."""
    total = sum(each.count for each in bins)
    return sum(each.count * each.gap for each in bins) / total if total else 0.0
