"""Probes of an episode: asked once it has ended, beside its own calls, resumed, given up."""

import asyncio
from dataclasses import replace

import pytest
from babble_lab import Babbler, timeless
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_lab import PROMPT, LetterEncoder, build, drive, ids, scripted

from data.episodes.probe_plan import ProbePlan
from data.episodes.trajectory import Episode, StopReason, ThreadOutcome, VersionSpan
from data.episodes.wire import decode_episode, encode_episode
from rollout import offline
from rollout.commands import CallResult, Cancel, EpisodeEvent, Generate
from rollout.machine import EpisodeMachine
from rollout.probing_machine import machine_of
from rollout.protocols import PROTOCOLS, default_params
from rollout.protocols.shared.forced_answers import thought_of
from rollout.runner import EpisodeSpec, run_episode

BLOCKS = ProbePlan(answers=2, answer_tokens=3, places="blocks", block_tokens=3, most_blocks=8)
ABLE = ("sequential", "spawn_join", "async_fork")
LINES = {
    ((), 0): "1 2 3 4 <spawn> 5 <and> 6 <join>",
    ((0,), 0): "7 <found> 8 <eos>",
    ((1,), 0): "<nothing> <eos>",
    ((), 1): "9 9 <answer> 8 <eos>",
}


def told(generate: Generate, answer: str = "8 <eos>") -> tuple[int, ...]:
    """LINES; every probe says `answer`."""
    return ids(LINES.get((generate.path, generate.number), answer))


def probed(plan: ProbePlan = BLOCKS, *, max_length: int = 200, answer: str = "8 <eos>") -> Episode:
    """The episode of LINES with probes; what was asked last comes back first."""
    return drive(
        build("spawn_join"), lambda asked: told(asked, answer), probes=plan, max_length=max_length,
        pick=lambda n: n - 1,
    )  # fmt: skip


def begun() -> tuple[EpisodeMachine, Generate]:
    """A machine with probes, and its first call."""
    made = machine_of(build("sequential"), PROMPT, id="0/0", problem_id="p", max_length=200, probes=BLOCKS)
    (asked,) = made.begin()
    assert isinstance(asked, Generate)
    return made, asked


def result(text: str, stop: StopReason = StopReason.STOP) -> CallResult:
    output = ids(text)
    versions = (VersionSpan(version=0, start=0, stop=len(output)),) if output else ()
    return CallResult(output=output, logprobs=(-1.0,) * len(output), versions=versions, stop=stop)


def test_answers_are_forced_behind_every_block_of_the_roots_thought() -> None:
    episode = probed()
    assert [(probe.of, probe.stop) for probe in episode.probes] == [
        place for place in ((0, 0), (0, 3), (0, 4), (3, 0), (3, 2)) for _ in range(2)
    ]
    start, results = "<parent> 1 2 3 <think>", "<results> <found> 8 <nothing> <end>"
    contexts = [episode.resolve(probe.call.context) for probe in episode.probes[::2]]
    assert contexts == [
        ids(f"{start} <answer>"),
        ids(f"{start} 1 2 3 <answer>"),
        ids(f"{start} 1 2 3 4 <answer>"),
        ids(f"{start} 1 2 3 4 {results} <answer>"),
        ids(f"{start} 1 2 3 4 {results} 9 9 <answer>"),
    ]
    assert all(probe.answer == (8,) and probe.call.num_trained == 0 for probe in episode.probes)
    assert [probe.call.index for probe in episode.probes] == [*range(4, 14)]
    assert decode_episode(encode_episode(episode)) == episode


def test_probes_change_nothing_of_the_episode() -> None:
    plain = drive(build("spawn_join"), scripted(LINES), max_length=200)
    assert timeless(replace(probed(), probes=())) == timeless(plain)


def test_a_probe_that_gives_no_answer_and_one_that_has_no_room() -> None:
    assert {probe.answer for probe in probed(answer="<eos>").probes} == {None}
    # Cut off at three tokens, so that its tag has no end.
    assert {probe.answer for probe in probed(answer="1 2 3 4 <eos>").probes} == {None}
    # The contexts have 6, 9, 10, 15 and 17 tokens; the last call of the episode needs room for 5 more.
    few = probed(max_length=19)
    assert [len(few.resolve(probe.call.context)) for probe in few.probes[::2]] == [6, 9, 10, 15, 17]
    assert [probe.call.stop for probe in few.probes][-2:] == [StopReason.STOP] * 2
    tight = probed(max_length=16)
    assert len(tight.probes) == 8, "none where the context leaves no token"
    assert tight.outcome is ThreadOutcome.TRUNCATED


@pytest.mark.parametrize("name", ABLE)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), cut=st.floats(0, 1))
def test_it_goes_on_from_any_event_to_the_same_end(name: str, seed: int, cut: float) -> None:
    protocol = build(name)
    plain = EpisodeSpec(id="0/0", prompt=PROMPT, temperature=1.0, seed=f"{seed}/0/0")
    spec = replace(plain, probes=BLOCKS)

    async def scenario() -> None:
        events: list[EpisodeEvent] = []
        whole = await run_episode(Babbler(), protocol, spec, on_event=events.append)
        assert len(events) == len(whole.calls) + len(whole.probes)
        kept = events[: int(cut * len(events))]
        engine = Babbler()
        again = await run_episode(engine, protocol, spec, events=kept)
        assert timeless(again) == timeless(whole)
        assert len(engine.asked) == len(events) - len(kept), "nothing that had come back is asked again"
        without = await run_episode(Babbler(), protocol, plain)
        assert timeless(replace(whole, probes=())) == timeless(without)
        seeds = [probe.call.seed for probe in whole.probes] + [call.seed for call in whole.calls]
        assert len(seeds) == len(set(seeds))

    asyncio.run(scenario())


def test_an_episode_that_failed_or_was_given_up_is_not_probed() -> None:
    failed = drive(build("sequential"), told, probes=BLOCKS, fail=lambda _: True)
    assert failed.outcome is ThreadOutcome.FAILED and failed.probes == ()
    machine, asked = begun()
    assert machine.on_give_up() == [Cancel(call=asked.call)]
    assert machine.on_result(asked.call, result("1 2", StopReason.ABORT)) == []
    assert machine.episode().outcome is ThreadOutcome.CANCELLED and machine.episode().probes == ()


def test_probes_that_are_given_up_are_aborted_and_the_episode_stands() -> None:
    machine, asked = begun()
    probes = [c.call for c in machine.on_result(asked.call, result("1 2 3 <answer> 4 <eos>"))]
    assert len(probes) == 4 and not machine.done
    assert machine.on_give_up() == [Cancel(call=call) for call in probes]
    for call in probes:
        assert machine.on_result(call, result("5", StopReason.ABORT)) == []
    episode = machine.episode()
    assert episode.outcome is ThreadOutcome.RETURNED and episode.answer_ids() == (4,)
    assert {probe.call.stop for probe in episode.probes} == {StopReason.ABORT}


@pytest.mark.parametrize(
    ("answer", "said", "thought"),
    [
        ({"kind": "boxed"}, "One and one.\nThat is \\boxed{2}.", "One and one.\n"),
        ({"kind": "boxed", "scope": "after_think"}, "So 2.</think>\\boxed{2}", "So 2."),
        ({"kind": "boxed", "scope": "after_think"}, "So \\boxed{2}, but", "So \\boxed{2}, but"),
        ({"kind": "last_number"}, "No number at all", "No number at all"),
        ({"kind": "tags"}, "So <answer> 2", "So "),
    ],
)
def test_where_a_text_begins_to_answer(answer: dict[str, str], said: str, thought: str) -> None:
    params = PROTOCOLS["sequential"].params_class.model_validate({"name": "sequential", "answer": answer})
    protocol = PROTOCOLS["sequential"](params, LetterEncoder())
    output = (*map(ord, said), LetterEncoder.eos)
    episode = offline.drive(protocol, PROMPT, lambda _: output)
    assert said[: thought_of(protocol, episode.calls[0])] == thought


def test_a_thought_that_is_cut_off_has_not_answered_by_its_last_number() -> None:
    params = PROTOCOLS["sequential"].params_class.model_validate(
        {"name": "sequential", "answer": {"kind": "last_number"}}
    )
    protocol = PROTOCOLS["sequential"](params, LetterEncoder())
    for ending, thought in (("", 12), (chr(LetterEncoder.eos), 7)):
        said = tuple(map(ord, "One is\nand 2" + ending))
        episode = offline.drive(protocol, PROMPT, lambda _, said=said: said)  # type: ignore[misc]
        assert thought_of(protocol, episode.calls[0]) == thought


def test_which_protocols_can_be_made_to_answer() -> None:
    able = [name for name in PROTOCOLS if default_params(name).forks_at is not None]
    assert able == [*ABLE]
    published = PROTOCOLS["spawn_join"].params_class.model_validate({"name": "spawn_join", "dialect": "apr"})
    assert published.forks_at is None
