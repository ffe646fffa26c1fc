"""ProcessBench's metric of a judge, from the outcomes of an evaluation on task `judge`: whether the verdicts
on solutions with an error, and on those without one, are right (`marks` of the task).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from data.steps.step import NO_ERROR
from data.tasks.judge.verdicts import first_error
from data.tasks.problem import Problem
from rl.evaluation.outcomes import Outcome
from rl.evaluation.step_f1 import Judged, step_f1, step_f1_intervals


def judge_f1(problems: Sequence[Problem], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The metric with its 95% intervals over solutions; judgements that could not be graded are left out."""
    errors = {problem.id: first_error(problem.fields["labels"]) for problem in problems}
    judged = [
        _judged(each.problem_id, errors[each.problem_id], hit=each.correct)
        for each in outcomes
        if each.correct is not None and each.problem_id in errors
    ]
    found, between = step_f1(judged), step_f1_intervals(judged)
    return {
        "f1": found.f1, "f1_interval": between.f1,
        "wrong": found.wrong, "wrong_interval": between.wrong, "num_wrong": found.num_wrong,
        "right": found.right, "right_interval": between.right, "num_right": found.num_right,
    }  # fmt: skip


def f1_lines(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines for the screen, by checkpoint."""
    return [
        f"{name}: F1 {_share(each['f1'])}; the first error found in {_share(each['wrong'])} of "
        f"{each['num_wrong']} judgements, none in {_share(each['right'])} of {each['num_right']} without one"
        for name, each in found.items()
    ]


def _judged(problem: str, error: int, *, hit: bool) -> Judged:
    """A judgement that found the place of the first error, or another one."""
    other = 0 if error == NO_ERROR else NO_ERROR
    return Judged(problem=problem, label=error, prediction=error if hit else other)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
