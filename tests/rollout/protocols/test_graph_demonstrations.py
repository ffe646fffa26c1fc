"""Demonstrations of the protocols that can show parts which need each other, on real tasks, every option."""

import random
from typing import Any

import pytest

from data.episodes.topology import critical_tokens, total_tokens
from data.tasks.base import Task
from data.tasks.countdown import Countdown
from data.tasks.parts import Parts, PartsParams
from data.text.build_words import build_tokenizer
from data.text.codec import Codec
from rollout.demonstrate import demonstrate
from rollout.protocols import PROTOCOLS, build_protocol, vocabulary

VARIANTS: list[dict[str, Any]] = [
    {"name": "async_fork"},
    {"name": "async_fork", "budgets": {"depth": 2, "live_calls": 2}},
    {"name": "async_fork", "wait": "success", "nobody": "nobody here"},
    {"name": "plan_graph"},
    {"name": "plan_graph", "shown": "sinks", "budgets": {"live_calls": 1}},
    {"name": "subtask_tree"},
    {"name": "subtask_tree", "budgets": {"depth": 2}},
    {"name": "subtask_tree", "budgets": {"depth": 0}},
    {"name": "subtask_tree", "style": "one_by_one", "budgets": {"depth": 2}},
]
TASKS: list[Task] = [Countdown(), Parts(PartsParams(dependencies=True))]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: " ".join(map(str, variant.values())))
def test_every_option_demonstrates_right_answers(variant: dict[str, Any], task: Task) -> None:
    params = PROTOCOLS[variant["name"]].params_class.model_validate(variant)
    tags, words = vocabulary(params)
    spoken = list(dict.fromkeys([*tags, *words, *task.words()]))
    codec = Codec(build_tokenizer(spoken, numbers=task.largest_number, digits=False))
    protocol = build_protocol(params, codec)  # type: ignore[arg-type]
    rng = random.Random(0)
    shown = solved = 0
    for problem in task.problems("train", 60, 0):
        tree = task.search(problem, rng)
        prompt = task.prompt(problem)
        episode = demonstrate(protocol, prompt, tree, id="0", problem_id="p", max_length=1024)
        if episode is None:
            continue
        shown += 1
        answer = episode.answer_ids()
        assert (answer is None) == (tree.solution is None)
        if answer is not None:
            solved += 1
            assert task.check(problem, codec.decode(answer))
        assert critical_tokens(episode) <= total_tokens(episode)
        firsts = {call.thread: call for call in reversed(episode.calls)}
        longest = protocol.needed_length(prompt)
        for call in firsts.values():
            assert len(episode.context_ids(call)) + len(call.output) <= longest
    assert shown >= 48 and solved >= 20
