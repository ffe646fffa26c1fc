"""Demonstrations: the machine that drives rollouts builds them, so they are what a rollout of a perfect
imitator is.
"""

import asyncio
import random

import pytest

from data.episodes.trajectory import Episode, StopReason
from data.tasks.countdown import Countdown, CountdownParams
from data.text.build_words import build_tokenizer
from data.text.codec import Codec
from rollout.demonstrate import demonstrate
from rollout.engines.scripted import ScriptedEngine
from rollout.protocols import PROTOCOLS, ThinkingProtocol, build_protocol, default_params, vocabulary
from rollout.runner import EpisodeSpec, run_episode
from rollout.seeds import call_seed, episode_seed

TASK = Countdown(CountdownParams())


@pytest.fixture(scope="module")
def codec() -> Codec:
    spoken = [word for name in PROTOCOLS for words in vocabulary(default_params(name)) for word in words]
    return Codec(build_tokenizer(list(dict.fromkeys([*spoken, *TASK.words()])), numbers=99, digits=False))


def build(codec: Codec, name: str, **params: object) -> ThinkingProtocol:
    return build_protocol(PROTOCOLS[name].params_class.model_validate({"name": name, **params}), codec)


def protocols(codec: Codec) -> list[ThinkingProtocol]:
    return [
        build(codec, "spawn_join"),
        build(codec, "spawn_join", condition="spawns"),
        build(codec, "spawn_join", condition="tokens"),
        build(codec, "spawn_join", budgets={"depth": 2}),
        build(codec, "sequential", max_tokens=900),
    ]


def demos(protocol: ThinkingProtocol, codec: Codec, count: int) -> list[tuple[Episode, int]]:
    made = []
    for number, problem in enumerate(TASK.problems("train", count, 0)):
        tree = TASK.search(problem, random.Random(number))
        prompt = TASK.prompt(problem)
        episode = demonstrate(protocol, prompt, tree, id=str(number), problem_id=problem.id, max_length=1024)
        assert episode is not None
        answer = episode.answer_ids()
        assert (answer is None) == (tree.solution is None)
        if answer is not None:
            assert TASK.check(problem, codec.decode(answer))
        made.append((episode, len(tree.children)))
    return made


@pytest.mark.medium
def test_demonstrations_are_well_formed_and_their_answers_right(codec: Codec) -> None:
    for protocol in protocols(codec):
        for episode, children in demos(protocol, codec, 200):
            assert not episode.violations
            assert all(call.stop is StopReason.STOP and not call.logprobs for call in episode.calls)
            opened = sum(thread.parent == 0 for thread in episode.threads)
            assert opened == (0 if protocol.name == "sequential" else children)


@pytest.mark.medium
def test_a_rollout_of_a_perfect_imitator_is_the_demonstration(codec: Codec) -> None:
    """Same calls, contexts and outputs through the asynchronous runner: training and use cannot disagree."""
    for protocol in protocols(codec):
        if getattr(protocol.params, "condition", "none") != "none":
            continue  # its demonstrations are told what they themselves use
        for number, (demo, _) in enumerate(demos(protocol, codec, 20)):
            said = {demo.context_ids(call): call.output for call in demo.calls}
            engine = ScriptedEngine(lambda prompt, seed, said=said: said[prompt])
            problem = TASK.problems("train", 20, 0)[number]
            spec = EpisodeSpec(
                id=f"{number}/0",
                problem_id=problem.id,
                prompt=TASK.prompt(problem),
                temperature=1.0,
                seed="",
            )
            episode = asyncio.run(run_episode(engine, protocol, spec))
            key = [(call.context, call.output, call.after, call.role) for call in episode.calls]
            assert key == [(call.context, call.output, call.after, call.role) for call in demo.calls]
            assert episode.answer == demo.answer


def test_a_demonstration_that_does_not_fit_is_left_out(codec: Codec) -> None:
    protocol = build(codec, "sequential", max_tokens=8)
    problem = TASK.problems("train", 1, 0)[0]
    tree = TASK.search(problem, random.Random(0))
    prompt = TASK.prompt(problem)
    assert demonstrate(protocol, prompt, tree, id="0", problem_id="p", max_length=1024) is None


def test_seeds_name_the_position_of_a_call_and_nothing_else() -> None:
    positions = [
        (0, 1, 2, (), 0),
        (0, 1, 2, (), 1),
        (0, 1, 2, (0,), 0),
        (0, 1, 3, (), 0),
        (0, 2, 2, (), 0),
        (1, 1, 2, (), 0),
    ]
    seeds = [call_seed(episode_seed(*run), path, number) for *run, path, number in positions]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds[0] == 606579644866746255, "a recorded run depends on these numbers"
