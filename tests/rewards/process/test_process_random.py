"""The term `process` on solvers' texts with random mistakes: all are graded, and every reward has a place."""

import random
from collections.abc import Sequence

import pytest

from data.tasks.labelled import StepLabelledTask
from data.tasks.registry import TASKS
from data.text.build_words import build_tokenizer
from data.text.codec import Codec
from rewards.compose import placing_fault
from rewards.score import Judged
from rewards.terms.process import ProcessParams, ProcessTerm
from rewards.verifiers.verdict import Verdict
from rollout.demonstrate import demonstrate
from rollout.offline import drive
from rollout.protocols import build_protocol, default_params, vocabulary

EPISODES = 30


def spoilt(rng: random.Random, words: list[int], ids: Sequence[int]) -> tuple[int, ...]:
    """The ids with some replaced, some left out and some said twice."""
    said: list[int] = []
    for token in ids:
        chance = rng.random()
        said += (
            [rng.choice(words)] if chance < 0.1 else [] if chance < 0.15 else [token] * (1 + (chance > 0.95))
        )
    return tuple(said)


@pytest.mark.parametrize("digits", [False, True])
@pytest.mark.parametrize("protocol_name", ["sequential", "async_fork"])
@pytest.mark.parametrize("task_name", ["countdown", "parts", "sudoku", "async_plan"])
def test_any_text_is_graded(task_name: str, protocol_name: str, digits: bool) -> None:
    made = TASKS[task_name]
    params = {"async_plan": {"linked": 0.0}}.get(task_name, {})
    task = made(made.Params.model_validate(params))
    assert isinstance(task, StepLabelledTask)
    tags, spoken = vocabulary(default_params(protocol_name))
    codec = Codec(build_tokenizer([*tags, *spoken, *task.words()], numbers=99, digits=digits))
    protocol, words = build_protocol(default_params(protocol_name), codec), list(range(codec.size))
    problems = task.problems("train", 8, 0)
    placed = 0
    for number in range(EPISODES):
        rng = random.Random(number)
        problem = problems[number % len(problems)]
        shown = demonstrate(
            protocol, task.prompt(problem), task.search(problem, rng), id="d", problem_id="p", max_length=2000
        )
        outputs = iter([call.output for call in shown.calls] if shown else [])
        episode = drive(
            protocol,
            task.prompt(problem),
            lambda _, rng=rng, outputs=outputs: spoilt(rng, words, next(outputs, (words[-1],))),  # type: ignore[misc]
        )
        for step in ("line", "call", "thread"):
            term = ProcessTerm(
                ProcessParams(name="process", step=step, label=rng.choice(["valid", "reachable"]))
            )
            score = term(
                Judged(task=task, problem=problem, episode=episode, codec=codec, verdict=Verdict.WRONG)
            )
            assert score.value == 0.0 and not placing_fault(score, episode, 1.0)
            placed += len(score.steps)
    assert placed > EPISODES
