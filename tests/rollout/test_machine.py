"""The episode machine: what it promises for any output of any model."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_lab import EOS, IDS, WordEncoder, build, drive, ids, scripted

from data.episodes.topology import critical_tokens, total_tokens, width
from data.episodes.trajectory import (
    EdgeKind,
    Forced,
    Limit,
    Ref,
    ThreadOutcome,
    ViolationKind,
)
from data.episodes.wire import decode_episode, encode_episode
from data.text.prompt import Prompt
from rollout.commands import Generate
from rollout.protocols import ThinkingProtocol
from rollout.protocols.shared.base import (
    Ask,
    Barrier,
    BarrierKind,
    Budgets,
    Continue,
    Fork,
    Return,
    Stops,
    ThreadResult,
    ThreadView,
    whole,
)
from rollout.protocols.spawn_join import SpawnJoin, SpawnJoinParams


def spawn_join(**params: object) -> ThinkingProtocol:
    return build("spawn_join", **params)


def test_spawn_join_children_see_only_their_message_and_the_spawn_text_leaves_the_parent() -> None:
    episode = drive(
        spawn_join(),
        scripted(
            {
                ((), 0): "7 <spawn> 4 5 <and> 6 <join>",
                ((0,), 0): "8 <found> 9 10 <eos>",
                ((1,), 0): "11 12 <nothing> <eos>",
                ((), 1): "<answer> 9 10 <eos>",
            }
        ),
    )
    contexts = [episode.context_ids(call) for call in episode.calls]
    assert contexts[0] == ids("<parent> 1 2 3 <think>")
    assert contexts[1] == ids("<child> 4 5 <think>")
    assert contexts[2] == ids("<child> 6 <think>")
    assert contexts[3] == ids("<parent> 1 2 3 <think> 7 <results> <found> 9 10 <nothing> <end>")
    assert episode.answer_ids() == (9, 10)
    assert [(edge.kind, edge.call) for edge in episode.calls[3].after] == [
        (EdgeKind.NEXT, 0),
        (EdgeKind.JOIN, 1),
        (EdgeKind.JOIN, 2),
    ]
    assert episode.calls[1].context[1] == Ref(call=0, start=2, stop=4)
    # 7 tokens spawn, 5 and 4 in the children, 4 in the answer.
    assert total_tokens(episode) == 7 + 5 + 4 + 4
    assert critical_tokens(episode) == 7 + 5 + 4
    assert width(episode) == 2 and not episode.violations


def test_a_truncated_child_returns_one_short_line_and_is_a_typed_outcome() -> None:
    episode = drive(
        spawn_join(child_tokens=2),
        scripted(
            {((), 0): "<spawn> 4 <join>", ((0,), 0): "8 8 8 8", ((), 1): "<giveup> <eos>"},
        ),
    )
    assert episode.threads[1].outcome is ThreadOutcome.TRUNCATED
    assert episode.context_ids(episode.calls[2]) == ids("<parent> 1 2 3 <think> <results> <nothing> <end>")
    assert episode.answer is None and episode.outcome is ThreadOutcome.RETURNED


def test_a_child_that_the_engine_fails_is_data_too() -> None:
    episode = drive(
        spawn_join(),
        scripted(
            {
                ((), 0): "<spawn> 4 <and> 5 <join>",
                ((0,), 0): "",
                ((1,), 0): "<nothing> <eos>",
                ((), 1): "<giveup> <eos>",
            }
        ),
        fail=lambda generate: generate.path == (0,),
    )
    assert [thread.outcome for thread in episode.threads] == [
        ThreadOutcome.RETURNED,
        ThreadOutcome.FAILED,
        ThreadOutcome.RETURNED,
    ]


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        ("1 2 <join>", ViolationKind.JOIN_WITHOUT_FORK),
        ("<spawn> <join>", ViolationKind.NO_CHILDREN),
        ("<spawn> <and> <join>", ViolationKind.EMPTY_CHILD),
        ("<answer> <eos>", ViolationKind.MALFORMED_ANSWER),
        ("5 <eos>", ViolationKind.MALFORMED_ANSWER),
    ],
)
def test_malformed_parents_end_with_a_typed_violation(first: str, kind: ViolationKind) -> None:
    episode = drive(spawn_join(), scripted({((), 0): first}))
    assert episode.outcome is ThreadOutcome.MALFORMED and episode.answer is None
    assert kind in {violation.kind for violation in episode.violations} | (
        {ViolationKind.EMPTY_CHILD} if first == "<spawn> <and> <join>" else set()
    )


def test_children_beyond_the_width_do_not_run_and_the_parent_is_told() -> None:
    lines = {((key,), 0): "<nothing> <eos>" for key in range(3)}
    episode = drive(
        spawn_join(budgets={"width": 2}),
        scripted({((), 0): "<spawn> 1 <and> 2 <and> 3 <join>", ((), 1): "<giveup> <eos>", **lines}),
    )
    assert width(episode) == 2
    refused = episode.threads[3]
    assert (refused.outcome, refused.limit) == (ThreadOutcome.BUDGET, Limit.WIDTH)
    # The parent is told of the third child that it found nothing.
    told = episode.context_ids(episode.calls[-1])
    assert told == ids("<parent> 1 2 3 <think> <results> <nothing> <nothing> <nothing> <end>")
    assert [violation.kind for violation in episode.violations] == [ViolationKind.TOO_MANY_CHILDREN]


def test_spawn_budget_prefix_conditions_the_parent_only() -> None:
    protocol = spawn_join(condition="spawns", budget=4)
    episode = drive(protocol, scripted({((), 0): "<giveup> <eos>"}))
    assert episode.context_ids(episode.calls[0]) == ids("<parent> <budget> 4 1 2 3 <think>")


def test_a_budget_of_tokens_is_passed_on_and_one_of_spawns_divided() -> None:
    """Children of a root with 9 spawns: two of them are used, and each child gets half of the other seven."""
    lines = {
        ((), 0): "<spawn> 4 <and> 5 <join>", ((0,), 0): "<nothing> <eos>", ((1,), 0): "<nothing> <eos>",
        ((), 1): "<giveup> <eos>",
    }  # fmt: skip
    for params, seen in (
        ({"condition": "tokens", "budget": 9}, "<child> <budget> 9 4 <think>"),
        ({"condition": "spawns", "budget": 9}, "<child> 4 <think>"),
        ({"condition": "spawns", "budget": 9, "budgets": {"depth": 2}}, "<child> <budget> 3 4 <think>"),
    ):
        episode = drive(spawn_join(**params), scripted(lines))
        assert episode.context_ids(episode.calls[1]) == ids(seen)


class FirstOf(SpawnJoin):
    """Three children; the first to return wins and the others are cancelled."""

    name: ClassVar[str] = "first_of"

    def open(self, prompt: Prompt, tree: object = None) -> Continue:
        stops = Stops(ids=(EOS,))
        return Continue(ask=Ask(role="root", context=(Forced(ids=(1, 2, 3)),), stops=stops, max_tokens=4))

    def on_call(self, thread: ThreadView) -> Continue | Fork | Return:
        if thread.path:
            return Return(outcome=ThreadOutcome.RETURNED, value=(whole(thread.last),))
        child = Ask(role="child", context=(whole(thread.last),), stops=Stops(ids=(EOS,)), max_tokens=8)
        return Fork(children=(child,) * 3, barrier=Barrier(kind=BarrierKind.FIRST_K, k=1))

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Return:
        return Return(outcome=ThreadOutcome.RETURNED, value=results[-1].value)


def test_first_k_cancels_the_others_and_still_counts_their_tokens() -> None:
    protocol = FirstOf(SpawnJoinParams(name="spawn_join"), WordEncoder())
    episode = drive(
        protocol, lambda g: (9, 9, 9, EOS) if not g.path else (8, 8, 8, 8, 8, EOS), pick=lambda n: n - 1
    )
    outcomes = [thread.outcome for thread in episode.threads[1:]]
    assert sorted(outcomes) == sorted([ThreadOutcome.CANCELLED] * 2 + [ThreadOutcome.RETURNED])
    # Root 4, winner 6, each cancelled call had 3 of its 6 tokens; the critical path is root and winner.
    assert total_tokens(episode) == 4 + 6 + 3 + 3
    assert critical_tokens(episode) == 10


class InOrder(FirstOf):
    """Four children: 0 and 1 at once, 2 when 1 has ended, 3 when 0 and 2 have."""

    name: ClassVar[str] = "in_order"

    def on_call(self, thread: ThreadView) -> Continue | Fork | Return:
        if thread.last.output[-1] != EOS:
            return Return(outcome=ThreadOutcome.MALFORMED, value=None)
        if thread.path:
            return Return(outcome=ThreadOutcome.RETURNED, value=(whole(thread.last),))
        children = tuple(
            Ask(role="child", context=(Forced(ids=(key,)),), stops=Stops(ids=(EOS,)), max_tokens=20)
            for key in range(4)
        )
        return Fork(children=children, needs=((), (), (1,), (0, 2)), barrier=self.barrier())

    def on_ready(self, ask: Ask, needed: tuple[ThreadResult, ...]) -> Ask:
        told = tuple(span for result in needed for span in result.value or (Forced(ids=(48,)),))
        return replace(ask, context=(*ask.context, *told))


def in_order(**params: object) -> InOrder:
    return InOrder(SpawnJoinParams.model_validate({"name": "spawn_join", **params}), WordEncoder())


IN_ORDER = {((), 0): "1 2 <eos>", ((1,), 0): "<eos>", ((2,), 0): "5 6 7 <eos>", ((3,), 0): "8 9 <eos>"}


def test_a_child_starts_when_those_it_needs_have_ended_not_when_a_wave_has() -> None:
    lines = {**IN_ORDER, ((0,), 0): "3 3 3 3 3 3 <eos>"}
    for pick in (lambda n: 0, lambda n: n - 1):
        episode = drive(in_order(), scripted(lines), pick=pick)
        root, *children = episode.calls
        assert [episode.context_ids(call) for call in children] == [
            (0,),
            (1,),
            (2, *ids("<eos>")),
            (3, *ids("3 3 3 3 3 3 <eos> 5 6 7 <eos>")),
        ]
        assert [[(edge.kind, edge.call) for edge in call.after] for call in children] == [
            [(EdgeKind.FORK, 0)],
            [(EdgeKind.FORK, 0)],
            [(EdgeKind.FORK, 0), (EdgeKind.JOIN, 2)],
            [(EdgeKind.FORK, 0), (EdgeKind.JOIN, 1), (EdgeKind.JOIN, 3)],
        ]
        # Root 3, then the slower of 7 and 1 + 4, then 3. Two waves before the last would take 7 + 4.
        assert critical_tokens(episode) == 3 + 7 + 3 and len(root.output) == 3
        assert episode.outcome is ThreadOutcome.RETURNED and width(episode) == 4


def test_a_child_waits_for_the_new_beginning_of_one_it_needs_and_for_none_that_was_refused() -> None:
    lines = {
        **IN_ORDER,
        ((0,), 0): "3 <eos>",
        ((1,), 0): "4 4 " * 10,
        ((4,), 0): "4 <eos>",
    }
    episode = drive(in_order(on_failure="retry"), scripted(lines))
    assert [episode.context_ids(call) for call in episode.calls if call.thread == 3] == [(2, 4, EOS)]
    # Root 3, the failed attempt 20, its new beginning 2, then 4 and 3.
    assert critical_tokens(episode) == 3 + 20 + 2 + 4 + 3
    episode = drive(in_order(budgets={"width": 3}), scripted({**lines, ((1,), 0): "4 <eos>"}))
    assert [thread.limit for thread in episode.threads] == [None, None, None, None, Limit.WIDTH]
    episode = drive(in_order(budgets={"width": 1}), scripted(lines))
    assert [call.thread for call in episode.calls] == [0, 1]


def test_a_thread_that_a_barrier_no_longer_waits_for_never_starts() -> None:
    lines = {**IN_ORDER, ((0,), 0): "3 3 3 3 <eos>"}
    episode = drive(in_order(wait="first"), scripted(lines), pick=lambda n: n - 1)
    assert [thread.outcome for thread in episode.threads[1:]] == [
        ThreadOutcome.CANCELLED,
        ThreadOutcome.RETURNED,
        ThreadOutcome.CANCELLED,
        ThreadOutcome.CANCELLED,
    ]
    # The cancelled call had 2 of its 5 tokens.
    assert critical_tokens(episode) == 3 + 2 and total_tokens(episode) == 3 + 2 + 1


def _random_words(rng: random.Random) -> Callable[[Generate], tuple[int, ...]]:
    """Text that often follows the rules and often breaks them."""
    structural = list(IDS.values())
    return lambda _: tuple(
        rng.choice(structural) if rng.random() < 0.4 else (EOS if rng.random() < 0.1 else rng.randint(1, 48))
        for _ in range(60)
    )


@pytest.mark.medium
@settings(max_examples=1500, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(["spawn_join", "sequential"]),
    rounds=st.integers(1, 3),
    depth=st.integers(0, 3),
    width_budget=st.integers(1, 5),
    total=st.integers(1, 400),
    critical=st.integers(1, 200),
    max_length=st.integers(1, 200),
    failures=st.sampled_from([0.0, 0.2]),
)
def test_any_output_ends_within_every_budget_and_keeps_every_invariant(
    seed: int,
    kind: str,
    rounds: int,
    depth: int,
    width_budget: int,
    total: int,
    critical: int,
    max_length: int,
    failures: float,
) -> None:
    rng = random.Random(seed)
    budgets = Budgets(width=width_budget, depth=depth, total_tokens=total, critical_tokens=critical)
    protocol: ThinkingProtocol = (
        spawn_join(rounds=rounds, parent_tokens=40, child_tokens=30, budgets=budgets)
        if kind == "spawn_join"
        else build("sequential", max_tokens=50, budgets=budgets)
    )

    def say(generate: Generate) -> tuple[int, ...]:
        assert len(generate.prompt) + generate.max_tokens <= max_length
        return _random_words(rng)(generate)

    episode = drive(
        protocol,
        say,
        pick=lambda n: rng.randrange(n),
        max_length=max_length,
        fail=lambda _: rng.random() < failures,
    )
    assert total_tokens(episode) <= total
    assert critical_tokens(episode) <= critical
    assert all(
        thread.depth <= depth for thread in episode.threads if thread.outcome is not ThreadOutcome.BUDGET
    )
    forks: dict[int, int] = {}
    ran = {call.thread for call in episode.calls}
    for thread in episode.threads[1:]:
        assert thread.opened_by is not None
        if thread.index not in ran:
            continue
        forks[thread.opened_by] = forks.get(thread.opened_by, 0) + 1
    assert all(count <= width_budget for count in forks.values())
    assert decode_episode(encode_episode(episode)) == episode
