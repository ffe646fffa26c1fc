"""Whatever a protocol demonstrates of a solver's search is cut into steps that are right."""

import random
from functools import cache

import pytest

from data.steps.cut import cut_calls, cut_threads
from data.steps.label import label_episode
from data.steps.step import StepKind
from data.tasks.async_plan.task import AsyncPlan
from data.tasks.countdown import Countdown, CountdownParams
from data.tasks.labelled import StepLabelledTask
from data.tasks.parts import Parts, PartsParams
from data.tasks.problem import Problem
from data.tasks.sudoku.task import Sudoku, SudokuParams
from data.text.build_words import build_tokenizer
from data.text.codec import Codec
from rollout.demonstrate import demonstrate
from rollout.protocols import PROTOCOLS, build_protocol, passing_results_on, vocabulary

TASKS: dict[str, StepLabelledTask] = {
    "countdown": Countdown(),
    "countdown of five": Countdown(CountdownParams(operands=5, max_first=3, max_second=2)),
    "parts": Parts(),
    "parts that are linked": Parts(PartsParams(dependencies=True)),
    "plan": AsyncPlan(),
    "sudoku": Sudoku(SudokuParams(givens_low=5, givens_high=6)),
}
EPISODES = 2


@cache
def problems(task_name: str) -> list[Problem]:
    """A few problems of a task, made once for all protocols."""
    return TASKS[task_name].problems("train", 10, seed=3)


def wide(name: str) -> dict[str, object]:
    """A protocol's section with every limit on tokens far away."""
    limits = [key for key in PROTOCOLS[name].params_class.model_fields if key.endswith("tokens")]
    return {"name": name, **dict.fromkeys(limits, 2_000)}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_demonstrations_hold_right_steps_only(name: str) -> None:
    params = PROTOCOLS[name].params_class.model_validate(wide(name))
    tags, words = vocabulary(params)
    spoken = [word for task in TASKS.values() for word in task.words()]
    codec = Codec(build_tokenizer(list(dict.fromkeys([*tags, *words, *spoken])), numbers=99, digits=False))
    protocol = build_protocol(params, codec)  # type: ignore[arg-type]
    for task_name, task in TASKS.items():
        if task.has_needs and name not in passing_results_on():
            continue
        rng, shown, claims = random.Random(5), 0, 0
        for problem in problems(task_name):
            tree = task.search(problem, rng)
            episode = demonstrate(
                protocol, task.prompt(problem), tree, id="0/0", problem_id=problem.id, max_length=8_192
            )
            if episode is None:
                continue
            lines = label_episode(task, problem, episode, codec, StepKind.LINE)
            wrong = [line.step.text for line in lines if line.label.valid is False]
            assert not wrong, (name, task_name, problem.id, wrong)
            claims += sum(line.label.valid is True for line in lines)
            # Where every part is needed, a thread that worked on another part than it was asked would show.
            astray = [line.step.text for line in lines if line.label.reachable is False]
            assert not (tree.every and astray), (name, task_name, problem.id, astray)
            for line in lines:
                # The step's tokens spell the step.
                output = episode.calls[line.step.call].output[line.step.start : line.step.stop]
                assert "".join(codec.pieces(output)).strip() == line.step.text
            threads = cut_threads(episode, codec)
            assert len({episode.calls[step.call].thread for step in threads}) == len(threads)
            assert len(cut_calls(episode, codec)) >= len(threads)
            shown += 1
            if shown == EPISODES:
                break
        assert shown == EPISODES and claims >= EPISODES, (name, task_name, shown, claims)
