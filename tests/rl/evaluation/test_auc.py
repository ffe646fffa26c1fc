"""Area under the ROC curve, by hand."""

import pytest

from rl.evaluation.auc import auc


@pytest.mark.parametrize(
    ("scores", "labels", "area"),
    [
        ([0.9, 0.4, 0.4, 0.1], [1, 1, 0, 0], 0.875),  # of four pairs three won and one tied
        ([0.1, 0.9], [1, 0], 0.0),
        ([0.3, 0.3, 0.3], [1, 0, 0], 0.5),
        ([0.2, 0.8, 0.5], [0.5, 1.0, 0.49], 0.5),  # 0.2 loses to 0.5, 0.8 wins
        ([0.2, 0.8], [1, 1], None),
        ([], [], None),
    ],
)
def test_by_hand(scores: list[float], labels: list[float], area: float | None) -> None:
    assert auc(scores, labels) == area
