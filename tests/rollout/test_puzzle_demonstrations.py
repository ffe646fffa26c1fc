"""Every protocol demonstrates the puzzles: right answers, no violation, only words of the task."""

import random

import pytest

from data.tasks.async_plan.task import AsyncPlan, AsyncPlanParams
from data.tasks.base import SolvedTask
from data.tasks.sudoku.task import Sudoku, SudokuParams
from data.text.build_words import build_tokenizer
from data.text.codec import Codec
from rollout.demonstrate import demonstrate
from rollout.protocols import PROTOCOLS, build_protocol, passing_results_on, vocabulary

TASKS: dict[str, SolvedTask] = {
    "sudoku": Sudoku(SudokuParams(skip=0)),
    "sudoku of six": Sudoku(SudokuParams(side=6, givens_low=16, givens_high=20, skip=0)),
    "plan": AsyncPlan(),
    "plan without waits": AsyncPlan(AsyncPlanParams(linked=0)),
}


def wide(name: str) -> dict[str, object]:
    """A protocol's section with every limit on tokens far away."""
    limits = [
        key for key in PROTOCOLS[name].params_class.model_fields if key.endswith("tokens") or key == "tau"
    ]
    return {"name": name, **dict.fromkeys(limits, 2_000)}


@pytest.mark.parametrize("task_name", TASKS)
@pytest.mark.parametrize("name", PROTOCOLS)
def test_puzzles_are_demonstrated(name: str, task_name: str) -> None:
    task = TASKS[task_name]
    if task.has_needs and name not in passing_results_on():
        pytest.skip("cannot pass results on, and says so (tests/rl/config)")
    params = PROTOCOLS[name].params_class.model_validate(wide(name))
    tags, words = vocabulary(params)
    spoken = list(dict.fromkeys([*tags, *words, *task.words()]))
    codec = Codec(build_tokenizer(spoken, numbers=max(99, task.largest_number), digits=False))
    protocol = build_protocol(params, codec)  # type: ignore[arg-type]
    shown = 0
    for number, problem in enumerate(task.problems("train", 12, 0)):
        tree = task.search(problem, random.Random(number))
        prompt = task.prompt(problem)
        episode = demonstrate(
            protocol, prompt, tree, id=str(number), problem_id=problem.id, max_length=16_384
        )
        if episode is None:
            continue
        assert not episode.violations
        answer = episode.answer_ids()
        if answer is not None:
            shown += 1
            assert task.check(problem, codec.decode(answer))
    assert shown >= 10, f"{shown} of 12 end with an answer"
