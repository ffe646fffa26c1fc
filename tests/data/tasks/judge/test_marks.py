"""Marks of a judge, worked out by hand."""

import pytest

from data.tasks.judge.marks import MARKS, Labels
from data.tasks.judge.verdicts import Verdicts

T, F, N = True, False, None


@pytest.mark.parametrize(
    ("verdicts", "labels", "all_", "first_error", "share", "f1"),
    [
        # 4 of 5 agree; found wrong: 1 of the 2 wrong ones, and nothing besides: F1 = 2 / (2 + 1).
        ((T, F, T, T, T), (T, F, T, F, T), 0.0, 1.0, 4 / 5, 2 / 3),
        # 2 of 4 agree; the wrong one is not found, and a right one is called wrong.
        ((F, T, T, T), (T, T, T, F), 0.0, 0.0, 2 / 4, 0.0),
        # Nothing is wrong, and nothing is called wrong.
        ((T, T), (T, T), 1.0, 1.0, 1.0, 1.0),
        # The second step has no label, and the fourth no verdict: 2 of 3 agree.
        ((T, F, F, N), (T, N, F, T), 0.0, 1.0, 2 / 3, 1.0),
        # Two found, one called wrong besides: 2 * 2 / (2 * 2 + 1).
        ((F, F, F), (F, T, F), 0.0, 1.0, 2 / 3, 4 / 5),
        ((F, N, N), (F, N, N), 1.0, 1.0, 1.0, 1.0),
    ],
)
def test_marks(
    verdicts: Verdicts, labels: Labels, all_: float, first_error: float, share: float, f1: float
) -> None:
    found = {name: mark(verdicts, labels) for name, mark in MARKS.items()}
    assert found == pytest.approx({"all": all_, "first_error": first_error, "share": share, "f1": f1})
