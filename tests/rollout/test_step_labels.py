"""Whatever a protocol demonstrates of a solver's search is cut into steps that are right."""

import random
from functools import cache

import pytest

from data.steps.cut import cut_calls, cut_threads
from data.steps.label import label_episode
from data.steps.step import StepKind
from data.tasks.async_plan.task import AsyncPlan, AsyncPlanParams
from data.tasks.countdown import Countdown, CountdownParams
from data.tasks.labelled import StepLabelledTask
from data.tasks.parts import Parts, PartsParams
from data.tasks.problem import Problem
from data.tasks.sudoku.task import Sudoku, SudokuParams
from data.text.build_words import build_tokenizer
from data.text.codec import Codec
from rollout.demonstrate import demonstrate
from rollout.protocols import PROTOCOLS, build_protocol, passing_results_on, vocabulary
from tests.support.tokenizer_lab import codec_of

TASKS: dict[str, StepLabelledTask] = {
    "countdown": Countdown(),
    "countdown of five": Countdown(CountdownParams(operands=5, max_first=3, max_second=2)),
    "parts": Parts(),
    "parts that are linked": Parts(PartsParams(dependencies=True)),
    "plan": AsyncPlan(),
    "sudoku": Sudoku(SudokuParams(givens_low=5, givens_high=6)),
}
CHAT_TASKS: dict[str, StepLabelledTask] = {
    "apr": Countdown(CountdownParams(text="apr")),
    "questions": Parts(PartsParams(text="questions")),
    "story": AsyncPlan(AsyncPlanParams(text="story")),
    "instruction": Sudoku(SudokuParams(givens_low=5, givens_high=6, text="instruction")),
}
"""Tasks in the text for chat models."""
EPISODES = 2


@cache
def problems(task_name: str) -> list[Problem]:
    """A few problems of a task, made once for all protocols."""
    return (TASKS | CHAT_TASKS)[task_name].problems("train", 10, seed=3)


def wide(name: str) -> dict[str, object]:
    """A protocol's section with every limit on tokens far away."""
    limits = [
        key for key in PROTOCOLS[name].params_class.model_fields if key.endswith("tokens") or key == "tau"
    ]
    return {"name": name, **dict.fromkeys(limits, 20_000)}


def check_demonstrations(
    section: dict[str, object], tasks: dict[str, StepLabelledTask], codec: Codec
) -> None:
    name = str(section["name"])
    protocol = build_protocol(PROTOCOLS[name].params_class.model_validate(section), codec)  # type: ignore[arg-type]
    for task_name, task in tasks.items():
        if task.has_needs and name not in passing_results_on():
            continue
        rng, shown, claims = random.Random(5), 0, 0
        for problem in problems(task_name):
            tree = task.search(problem, rng)
            episode = demonstrate(
                protocol, task.prompt(problem), tree, id="0/0", problem_id=problem.id, max_length=50_000
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
                # The step's tokens spell the step, and little else.
                output = episode.calls[line.step.call].output[line.step.start : line.step.stop]
                spelled = "".join(codec.pieces(output)).strip()
                assert line.step.text == spelled if codec.words_only else line.step.text in spelled
                assert len(spelled) <= len(line.step.text) + 8
            threads = cut_threads(episode, codec)
            assert len({episode.calls[step.call].thread for step in threads}) == len(threads)
            assert len(cut_calls(episode, codec)) >= len(threads)
            shown += 1
            if shown == EPISODES:
                break
        assert shown == EPISODES and claims >= EPISODES, (name, task_name, shown, claims)


@pytest.mark.medium
@pytest.mark.parametrize("name", PROTOCOLS)
def test_demonstrations_in_words_hold_right_steps_only(name: str) -> None:
    tags, words = vocabulary(PROTOCOLS[name].params_class.model_validate(wide(name)))
    spoken = [word for task in TASKS.values() for word in task.words()]
    codec = Codec(build_tokenizer(list(dict.fromkeys([*tags, *words, *spoken])), numbers=99, digits=False))
    check_demonstrations(wide(name), TASKS, codec)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_demonstrations_in_exact_text_hold_right_steps_only(name: str) -> None:
    check_demonstrations(wide(name), CHAT_TASKS, codec_of("gpt"))


def test_demonstrations_in_the_published_text_of_apr() -> None:
    section = wide("spawn_join") | {"dialect": "apr"}
    check_demonstrations(section, {"apr": CHAT_TASKS["apr"]}, codec_of("gpt"))
