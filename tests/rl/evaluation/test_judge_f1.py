"""ProcessBench's metric from the outcomes of a judge's evaluation, worked out by hand."""

from typing import Any

import pytest

from data.episodes.trajectory import ThreadOutcome
from data.tasks.judge.task import judged_problem
from rl.evaluation.judge_f1 import f1_lines, judge_f1
from rl.evaluation.outcomes import Outcome

LABELS = {"wrong": [True, False, None], "first": [False, None, None], "right": [True, True, True]}
PROBLEMS = [
    judged_problem(name, {"problem": "p", "context": "", "steps": ["a", "b", "c"], "labels": labels})
    for name, labels in LABELS.items()
]


def outcome(problem: str, sample: int, correct: bool | None) -> Outcome:
    return Outcome(
        problem_id=problem, sample=sample, correct=correct, total_tokens=1, critical_tokens=1,
        critical_seconds=1.0, threads=0, unique_threads=0, forked=False, depth=0,
        outcome=ThreadOutcome.RETURNED, answered=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("hits", "wrong", "right", "f1"),
    [
        # 3 of 4 judgements of solutions with an error, 1 of 2 without: 2 * 3/4 * 1/2 / (3/4 + 1/2).
        ({"wrong": [True, True], "first": [True, False], "right": [True, False]}, 3 / 4, 1 / 2, 3 / 5),
        # One that could not be graded is left out.
        ({"wrong": [True, None], "first": [False], "right": [True]}, 1 / 2, 1.0, 2 / 3),
        ({"wrong": [False], "right": [False]}, 0.0, 0.0, 0.0),
        ({"wrong": [True]}, 1.0, None, None),
    ],
)
def test_the_metric(
    hits: dict[str, list[bool | None]], wrong: float, right: float | None, f1: float | None
) -> None:
    outcomes = [outcome(name, n, hit) for name, each in hits.items() for n, hit in enumerate(each)]
    found: dict[str, Any] = judge_f1(PROBLEMS, outcomes)
    assert found["wrong"] == pytest.approx(wrong)
    for name, expected in (("right", right), ("f1", f1)):
        assert found[name] == (expected if expected is None else pytest.approx(expected))
    (line,) = f1_lines({"judge": found})
    assert line.startswith("judge: F1 " + ("-" if f1 is None else f"{f1:.1%}"))
