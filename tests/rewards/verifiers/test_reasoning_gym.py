"""The library's scores in a real verifier process: full marks alone are correct."""

import json
from collections.abc import Callable

import pytest

from data.tasks.registry import build_task
from rewards.verifiers.base import Outcome, OutcomeKind
from rl.config.task import ReasoningGymTask

pytest.importorskip("reasoning_gym", reason="requirements/reasoning_gym.txt is not installed")

CORRECT, WRONG = OutcomeKind.CORRECT, OutcomeKind.WRONG
NO_ANSWER, NO_GOLD = OutcomeKind.ANSWER_UNPARSABLE, OutcomeKind.GOLD_UNPARSABLE
CHAIN = {"question": "2 + 3 =", "answer": "5", "metadata": {"source_dataset": "chain_sum", "source_index": 0}}
COUNTDOWN = {
    "question": "Make 6 of 1, 2 and 3.",
    "answer": "1 + 2 + 3",
    "metadata": json.dumps({"source_dataset": "countdown", "numbers": [1, 2, 3], "target": 6}),
}


@pytest.mark.medium
@pytest.mark.parametrize(
    ("row", "answer", "kind", "score"),
    [
        (CHAIN, "5", CORRECT, 1.0),
        (CHAIN, "6", WRONG, 0.0),
        (CHAIN, " ", NO_ANSWER, None),
        (COUNTDOWN, "3 + 2 + 1", CORRECT, 1.0),
        (COUNTDOWN, "3 * 2 + 1", WRONG, 0.05),  # the library pays for an expression that can be read
        (COUNTDOWN, "__import__('os').getpid()", WRONG, 0.0),
        ({"question": "?", "answer": "1", "metadata": {}}, "1", NO_GOLD, None),
        ({"question": "?", "answer": "1", "metadata": {"source_dataset": "no such"}}, "1", NO_GOLD, None),
        ({}, "1", NO_GOLD, None),
    ],
)
def test_scores(
    verify: Callable[..., Outcome],
    row: dict[str, object],
    answer: str,
    kind: OutcomeKind,
    score: float | None,
) -> None:
    outcome = verify((), answer, name="reasoning_gym", fields=row)
    assert (outcome.kind, outcome.score) == (kind, score), outcome


def test_the_golds_of_the_task_have_full_marks(verify: Callable[..., Outcome]) -> None:
    params = {"datasets": [{"name": "chain_sum"}, {"name": "countdown"}, {"name": "leg_counting"}]}
    config = ReasoningGymTask.model_validate_json(json.dumps({"name": "reasoning_gym", "params": params}))
    task = build_task(config.params)
    for problem in task.problems("train", 12, 0):
        (gold,) = task.gold(problem)
        outcome = verify(gold, gold, name="reasoning_gym", fields=dict(task.fields(problem)))
        assert (outcome.kind, outcome.score) == (CORRECT, 1.0), (problem, outcome)
