"""Recorded episodes taken up again behind a step, under every protocol."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from babble_lab import VARIANTS, Babbler, Critic
from protocol_lab import PROMPT, build

from data.episodes.trajectory import Call, Edge, EdgeKind, Episode, StopReason, Thread, ThreadOutcome
from rollout.commands import CallResult
from rollout.given_calls import GivenCall, dependent_calls, given_calls, gone_on, sampled_calls
from rollout.runner import EpisodeSpec, run_episode


def run(variant: dict[str, Any], seed: int, given: Sequence[GivenCall] = ()) -> tuple[Episode, Babbler]:
    engine = Babbler(version=len(given))
    spec = EpisodeSpec(id="0/0", prompt=PROMPT, temperature=1.0, seed=f"{seed}/0/0", given=tuple(given))
    return asyncio.run(run_episode(engine, build(**variant), spec, scorer=Critic())), engine


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: " ".join(map(str, variant.values())))
def test_what_a_step_does_not_reach_stays(variant: dict[str, Any]) -> None:
    rng = random.Random(str(variant))
    for seed in range(6):
        recorded, _ = run(variant, seed)
        calls = [call for call in recorded.calls if call.stop is not StopReason.ABORT and call.output]
        for call in rng.sample(calls, k=min(3, len(calls))):
            stop = rng.randint(1, len(call.output))
            given = given_calls(recorded, call.index, stop)
            again, engine = run(variant, seed + 100, given)
            keys = {(each.path, each.number): each for each in given}
            found = {
                (path, number): other
                for other, (path, number) in zip(again.calls, keys_of(again), strict=True)
            }
            mine = keys_of(recorded)[call.index]
            assert found[mine].output[:stop] == call.output[:stop]
            assert again.context_ids(found[mine]) == recorded.context_ids(call)
            for key, known in keys.items():
                other = found.get(key)
                if other is not None and known.whole and again.context_ids(other) == known.context:
                    assert other.output == known.result.output and other.stop is known.result.stop
            # An engine is asked for nothing that was given, and goes on exactly behind the step.
            sampled = sampled_calls(again, given)
            assert sorted(len(request.prompt) for request in engine.asked) == sorted(
                len(again.context_ids(other)) + size
                for other, size in sampled
                # Behind all that a call may sample nothing is asked.
                if size < len(other.output) or other.stop is StopReason.ABORT
            )
            if len(found[mine].output) > stop:
                behind = recorded.context_ids(call) + call.output[:stop]
                assert behind in [request.prompt for request in engine.asked]
            assert all(len(each.output) == len(each.logprobs) for each in again.calls)


def keys_of(episode: Episode) -> list[tuple[tuple[int, ...], int]]:
    paths: list[tuple[int, ...]] = []
    for thread in episode.threads:
        paths.append(() if thread.parent is None else (*paths[thread.parent], thread.key))
    found: list[tuple[tuple[int, ...], int]] = []
    for call in episode.calls:
        found.append(
            (paths[call.thread], sum(other.thread == call.thread for other in episode.calls[: call.index]))
        )
    return found


def call(index: int, thread: int, *after: tuple[EdgeKind, int], **given: Any) -> Call:
    return Call(
        index=index, thread=thread, role="r", context=(), output=(7, 8, 9), logprobs=(),
        versions=(), stop=given.get("stop", StopReason.STOP),
        after=tuple(Edge(kind=kind, call=other) for kind, other in after), num_trained=3,
    )  # fmt: skip


def forked(**given: Any) -> Episode:
    """A parent (0) forks two threads (1 and 2, 3); 4 joins both. Call 3 had waited for a slot of 1."""
    threads = [
        Thread(index=index, parent=None if not index else 0, key=max(0, index - 1), opened_by=None,
               depth=min(index, 1), outcome=ThreadOutcome.RETURNED)
        for index in range(3)
    ]  # fmt: skip
    calls = (
        call(0, 0),
        call(1, 1, (EdgeKind.FORK, 0)),
        call(2, 2, (EdgeKind.FORK, 0), **given),
        call(3, 2, (EdgeKind.NEXT, 2), (EdgeKind.SLOT, 1)),
        call(4, 0, (EdgeKind.NEXT, 0), (EdgeKind.JOIN, 1), (EdgeKind.JOIN, 3)),
    )
    return Episode(id="0/0", problem_id="p", protocol="x", calls=calls, threads=tuple(threads), answer=None)


def test_what_depends_on_a_call() -> None:
    assert dependent_calls(forked(), 0) == {1, 2, 3, 4}
    assert dependent_calls(forked(), 1) == {4}, "waiting for a slot is no dependence"
    assert dependent_calls(forked(), 2) == {3, 4}
    assert dependent_calls(forked(), 4) == set()


def test_which_calls_are_given() -> None:
    given = given_calls(forked(), 2, 2)
    assert [(each.path, each.number, each.whole, each.result.output) for each in given] == [
        ((), 0, True, (7, 8, 9)), ((0,), 0, True, (7, 8, 9)), ((1,), 0, False, (7, 8)),
    ]  # fmt: skip
    assert [each.whole for each in given_calls(forked(), 2, None)] == [True, True, True]
    stopped = given_calls(forked(stop=StopReason.ABORT), 1, 1)
    assert [(each.path, each.whole) for each in stopped] == [
        ((), True),
        ((0,), False),
        ((1,), False),
        ((1,), True),
    ]
    failed = given_calls(forked(stop=StopReason.ERROR), 1, 1)
    assert [each.path for each in failed] == [(), (0,), (1,)], "a failed call is sampled anew"


def test_a_beginning_and_what_follows_are_one_result() -> None:
    recorded, _ = run({"name": "sequential"}, 3)
    (first,) = [each for each in recorded.calls if each.thread == 0][:1]
    (given,) = given_calls(recorded, 0, 2)
    assert given.result.logprobs == first.logprobs[:2]
    assert [(span.start, span.stop) for span in given.result.versions] == [(0, 2)]
    later = CallResult(
        output=(5,), logprobs=(-9.0,), versions=given.result.versions[:0], stop=StopReason.STOP
    )
    joined = gone_on(given.result, replace(later, versions=(replace(first.versions[0], start=0, stop=1),)))
    assert joined.output == (*first.output[:2], 5) and joined.logprobs == (*first.logprobs[:2], -9.0)
    assert [(span.start, span.stop) for span in joined.versions] == [(0, 2), (2, 3)]
    assert joined.stop is StopReason.STOP
