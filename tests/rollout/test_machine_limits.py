"""Budgets, slots, wall clock, failed children and partial barriers: what the machine does, by hand."""

from collections.abc import Sequence
from typing import ClassVar

import pytest
from protocol_lab import EOS, WordEncoder, build, drive, ids, scripted

from data.episodes.topology import critical_tokens, total_tokens, width
from data.episodes.trajectory import EdgeKind, Forced, Limit, StopReason, ThreadOutcome, VersionSpan
from data.text.prompt import Prompt
from rollout.commands import CallResult, Cancel, Generate
from rollout.machine import EpisodeMachine
from rollout.protocols.shared.base import (
    Ask,
    Await,
    Barrier,
    BarrierKind,
    Continue,
    Decision,
    Fork,
    Return,
    Stops,
    ThreadResult,
    ThreadView,
    whole,
)
from rollout.protocols.spawn_join import SpawnJoin, SpawnJoinParams

TWO_CHILDREN = {
    ((), 0): "<spawn> 4 <and> 5 <join>",
    ((0,), 0): "1 2 3 <nothing> <eos>",
    ((1,), 0): "1 <nothing> <eos>",
    ((), 1): "<giveup> <eos>",
}


def test_with_one_slot_children_run_one_after_the_other_and_the_wait_is_path() -> None:
    free = drive(build("spawn_join"), scripted(TWO_CHILDREN))
    queued = drive(build("spawn_join", budgets={"live_calls": 1}), scripted(TWO_CHILDREN))
    # Spawn 5, children 5 and 3, answer 2.
    assert total_tokens(free) == total_tokens(queued) == 15
    assert critical_tokens(free) == 5 + 5 + 2
    assert critical_tokens(queued) == 15
    assert [(edge.kind, edge.call) for edge in queued.calls[2].after] == [
        (EdgeKind.FORK, 0),
        (EdgeKind.SLOT, 1),
    ]


def test_the_reserve_is_for_the_root_alone() -> None:
    lines = {**TWO_CHILDREN, ((0,), 0): "1 " * 60, ((1,), 0): "1 " * 60}
    starved = drive(build("spawn_join", budgets={"total_tokens": 12}), scripted(lines))
    assert starved.outcome is ThreadOutcome.BUDGET and starved.threads[0].limit is Limit.TOTAL_TOKENS
    kept = drive(
        build("spawn_join", budgets={"total_tokens": 12, "reserve_tokens": 2}),
        scripted(lines),
    )
    # 5 for the spawn, 5 for the first child, none for the second, 2 to conclude.
    assert kept.outcome is ThreadOutcome.RETURNED
    assert [thread.limit for thread in kept.threads] == [None, Limit.CALL, Limit.TOTAL_TOKENS]
    assert total_tokens(kept) == 12


def test_children_inherit_equal_shares_when_the_purse_is_split() -> None:
    lines = {**TWO_CHILDREN, ((0,), 0): "1 " * 60, ((1,), 0): "1 " * 60}
    episode = drive(
        build("spawn_join", budgets={"total_tokens": 35, "inherit": "split"}),
        scripted(lines),
    )
    # 30 are left after the spawn: 10 for each child, 10 kept.
    assert [len(call.output) for call in episode.calls] == [5, 10, 10, 2]


@pytest.mark.parametrize(("grace", "concludes"), [(0.0, False), (2.0, True)])
def test_the_wall_clock_stops_children_and_grace_lets_the_root_conclude(
    grace: float, concludes: bool
) -> None:
    protocol = build("spawn_join", budgets={"seconds": 3.0, "grace_seconds": grace})
    machine = EpisodeMachine(protocol, Prompt("1"), id="0/0", problem_id="p", max_length=100)
    (first,) = machine.begin()
    assert isinstance(first, Generate) and machine.deadline == 3.0
    children = machine.on_result(first.call, said("<spawn> 4 <and> 5 <join>"))
    assert machine.on_clock(2.9) == []
    commands = machine.on_clock(3.0)
    assert sorted(c.call for c in commands if isinstance(c, Cancel)) == [c.call for c in children]
    rest = [c for c in commands if isinstance(c, Generate)]
    assert len(rest) == (1 if concludes else 0)
    for child in children:
        assert machine.on_result(child.call, said("1", StopReason.ABORT)) == []
    if concludes:
        assert machine.deadline == 5.0
        machine.on_result(rest[0].call, said("<giveup> <eos>"))
    assert machine.done and machine.deadline is None
    episode = machine.episode()
    assert episode.outcome is (ThreadOutcome.RETURNED if concludes else ThreadOutcome.BUDGET)
    if concludes:
        assert {thread.limit for thread in episode.threads[1:]} == {Limit.SECONDS}
    assert total_tokens(episode) == 5 + 1 + 1 + (2 if concludes else 0)


def test_a_failed_child_begins_anew_in_a_thread_of_its_own() -> None:
    lines = {
        **TWO_CHILDREN,
        ((0,), 0): "7 <eos>",  # no result: malformed
        ((2,), 0): "8 <found> 9 <eos>",
    }
    episode = drive(build("spawn_join", on_failure="retry"), scripted(lines))
    outcomes = [thread.outcome for thread in episode.threads]
    assert outcomes == [ThreadOutcome.RETURNED, ThreadOutcome.MALFORMED] + [ThreadOutcome.RETURNED] * 2
    again = next(call for call in episode.calls if call.thread == 3)
    assert [edge.kind for edge in again.after] == [EdgeKind.RETRY]
    # In the first child's place.
    assert episode.context_ids(episode.calls[-1])[-5:] == ids("<results> <found> 9 <nothing> <end>")
    assert critical_tokens(episode) == 5 + 2 + 4 + 2 and width(episode) == 3


def test_after_the_last_retry_the_parent_is_told() -> None:
    lines = {**TWO_CHILDREN, **{((key,), 0): "7 <eos>" for key in (0, 2, 3)}}
    protocol = build("spawn_join", on_failure="retry", retries=2, notices={"malformed": "8 8"})
    episode = drive(protocol, scripted(lines))
    assert len(episode.threads) == 5
    assert episode.context_ids(episode.calls[-1])[-5:] == ids("<results> 8 8 <nothing> <end>")


def test_a_failed_child_can_fail_the_episode() -> None:
    episode = drive(build("spawn_join", on_failure="fail"), scripted({**TWO_CHILDREN, ((0,), 0): "7 <eos>"}))
    assert [thread.outcome for thread in episode.threads] == [
        ThreadOutcome.CHILD_FAILED,
        ThreadOutcome.MALFORMED,
        ThreadOutcome.CANCELLED,
    ]


def test_the_first_success_is_not_the_first_return() -> None:
    lines = {**TWO_CHILDREN, ((1,), 0): "1 <found> 2 <eos>", ((0,), 0): "1 <nothing> <eos>"}
    episode = drive(build("spawn_join", wait="success"), scripted(lines))
    assert [thread.success for thread in episode.threads] == [False, False, True]
    assert {thread.outcome for thread in episode.threads} == {ThreadOutcome.RETURNED}


class InPieces(SpawnJoin):
    """Children that speak two tokens at a time, and a parent that has heard enough when one says 9."""

    name: ClassVar[str] = "in_pieces"

    def open(self, prompt: Prompt, tree: object = None) -> Fork:
        barrier = Barrier(kind=BarrierKind.PREDICATE, decide=self.decide)
        return Fork(children=(self.ask(Forced(ids=(1,))),) * 3, barrier=barrier)

    def ask(self, *context: object) -> Ask:
        return Ask(role="child", context=context, stops=Stops(ids=(EOS,)), max_tokens=2)  # type: ignore[arg-type]

    def on_call(self, thread: ThreadView) -> Continue | Return:
        if thread.last.stop is StopReason.STOP:
            return Return(outcome=ThreadOutcome.RETURNED, value=None)
        return Continue(ask=self.ask(*thread.last.context, whole(thread.last)))

    def decide(self, threads: Sequence[ThreadResult]) -> Decision:
        said = {thread.key: [t for call in thread.calls for t in call.output] for thread in threads}
        if any(9 in tokens for tokens in said.values()):
            return Decision(join=True)
        return Decision(cancel=tuple(key for key, tokens in said.items() if 8 in tokens))

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Return:
        winner = next(result for result in results if any(9 in call.output for call in result.calls))
        return Return(outcome=ThreadOutcome.RETURNED, value=(whole(winner.calls[-1]),))


def test_a_predicate_sees_partial_outputs_prunes_one_thread_and_ends_the_wait() -> None:
    protocol = InPieces(SpawnJoinParams(name="spawn_join"), WordEncoder())
    lines = {
        ((0,), 0): "1 1 1", ((0,), 1): "1 1 1", ((0,), 2): "1 1 1",
        ((1,), 0): "8 1 1", ((1,), 1): "1 1 1",
        ((2,), 0): "1 1 1", ((2,), 1): "1 9 1",
    }  # fmt: skip
    episode = drive(protocol, scripted(lines))
    assert [thread.outcome for thread in episode.threads[1:]] == [ThreadOutcome.CANCELLED] * 3
    assert episode.answer_ids() == (1, 9)
    assert [thread.opened_by for thread in episode.threads] == [None] * 4
    # Thread 1 was pruned before its second call was sent: an aborted call counts what it had said.
    assert total_tokens(episode) == sum(len(call.output) for call in episode.calls)


class Later(SpawnJoin):
    """Opens a thread, goes on, and waits for it by name."""

    name: ClassVar[str] = "later"

    def on_call(self, thread: ThreadView) -> Continue | Fork | Await | Return:
        if thread.path:
            return Return(outcome=ThreadOutcome.RETURNED, value=(whole(thread.last),))
        stops = Stops(ids=(EOS,))
        if not thread.opened:
            child = Ask(role="child", context=(whole(thread.last),), stops=stops, max_tokens=8, name="worker")
            on = Ask(
                role="parent", context=(*thread.last.context, whole(thread.last)), stops=stops, max_tokens=8
            )
            return Fork(children=(child,), resume=on)
        return Await(names=("worker", "nobody"))

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Return:
        assert thread.joined == ("worker",)
        return Return(outcome=ThreadOutcome.RETURNED, value=results[0].value)


@pytest.mark.parametrize("child_first", [True, False])
def test_an_asynchronous_join_takes_the_later_of_two_clocks(child_first: bool) -> None:
    protocol = Later(SpawnJoinParams(name="spawn_join"), WordEncoder())
    lines = {((), 0): "1 <eos>", ((0,), 0): "2 2 2 2 <eos>", ((), 1): "3 3 <eos>"}
    episode = drive(protocol, scripted(lines), pick=lambda n: n - 1 if child_first else 0)
    assert episode.answer_ids() == ids("2 2 2 2 <eos>")
    assert [(call.thread, [edge.call for edge in call.after]) for call in episode.calls] == [
        (0, []),
        (0, [0]),
        (1, [0]),
    ]
    assert critical_tokens(episode) == 2 + 5


def said(text: str, stop: StopReason = StopReason.STOP) -> CallResult:
    output = ids(text)
    versions = (VersionSpan(version=0, start=0, stop=len(output)),)
    return CallResult(output=output, logprobs=(-1.0,) * len(output), versions=versions, stop=stop)
