"""Figures of a reward model on calls that it was not trained on, by hand."""

from pathlib import Path

import pytest

from data.whole_file import json_line
from rl.scorers.held_out import ScoredCall, lines, pairs, pairs_interval, read_held_out, report

CALLS = [
    # Its first error is the second step, and is found.
    ScoredCall(problem="a", targets=(1.0, 0.0, 1.0), scores=(0.75, 0.25, 0.5)),
    # No error; one is found.
    ScoredCall(problem="a", targets=(1.0, 1.0), scores=(0.25, 0.75)),
    # The first step is wrong, and is found.
    ScoredCall(problem="b", targets=(0.0,), scores=(0.25,)),
]


def test_by_hand() -> None:
    found = report(CALLS)
    assert (found["calls"], found["targets"], found["right"]) == (3, 6, pytest.approx(4 / 6))
    assert found["accuracy"] == pytest.approx(5 / 6)
    # (1/16 * 2 + 1/4 + 9/16 + 1/16 * 2) / 6
    assert found["brier"] == pytest.approx((4 / 16 + 1 / 4 + 9 / 16) / 6)
    # Right: 0.75, 0.5, 0.25, 0.75; wrong: 0.25, 0.25. Six of eight pairs are won, two are tied.
    assert found["auc"] == pytest.approx(7 / 8)
    first = found["first_error"]
    assert (first["wrong"], first["right"], first["num_wrong"], first["num_right"]) == (1.0, 0.0, 2, 1)
    assert first["f1"] == 0.0
    low, high = found["intervals"]["accuracy"]
    assert low == pytest.approx(4 / 5) and high == 1.0
    text = "\n".join(lines("prm", found))
    assert "accuracy 0.833 [0.800, 1.000], AUC 0.875" in text


def test_pairs_are_of_one_problem() -> None:
    """Last targets: of `a` 0.9 (right) beats 0.2 and ties 0.9 (wrong); of `b` there is nothing to compare."""
    calls = [
        ScoredCall(problem=problem, targets=(0.0, target), scores=(0.0, score))
        for problem, target, score in [("a", 1.0, 0.9), ("a", 0.0, 0.2), ("a", 0.0, 0.9), ("b", 1.0, 0.1)]
    ]
    assert pairs(calls) == pytest.approx(0.75)
    assert pairs(calls[3:]) is None


def test_the_interval_of_pairs_is_over_problems() -> None:
    """One problem is ordered right, one is tied, one has no pair: 1/2 to 1, by who is drawn."""
    ends = [("a", 1.0, 0.9), ("a", 0.0, 0.2), ("b", 1.0, 0.4), ("b", 0.0, 0.4), ("c", 1.0, 0.1)]
    calls = [
        ScoredCall(problem=problem, targets=(target,), scores=(score,)) for problem, target, score in ends
    ]
    assert pairs(calls) == pytest.approx(0.75)
    assert pairs_interval(calls) == (pytest.approx(0.5), pytest.approx(1.0))
    assert "within problems 0.750 [0.500, 1.000]" in "\n".join(lines("orm", report(calls)))
    assert pairs_interval(calls[4:]) is None


def test_nothing_to_measure() -> None:
    found = report([])
    assert found["accuracy"] is None and found["intervals"]["accuracy"] is None
    assert "accuracy -" in "\n".join(lines("prm", found))


def test_the_file(tmp_path: Path) -> None:
    line = {"problem": "a", "episode": "0/1", "targets": [1.0, 0.0], "scores": [0.5, 0.25]}
    (tmp_path / "f.jsonl").write_bytes(json_line(line))
    assert list(read_held_out(tmp_path / "f.jsonl")) == [
        ScoredCall(problem="a", targets=(1.0, 0.0), scores=(0.5, 0.25))
    ]
