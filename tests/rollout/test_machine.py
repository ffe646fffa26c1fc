"""The episode machine: what it promises for any output of any model."""

import random
from collections.abc import Callable
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.topology import critical_tokens, total_tokens, width
from data.trajectory import (
    EdgeKind,
    Episode,
    Forced,
    Ref,
    StopReason,
    ThreadOutcome,
    VersionSpan,
    ViolationKind,
)
from data.wire import decode_episode, encode_episode
from rollout.machine import CallResult, Cancel, EpisodeMachine, Generate
from rollout.protocols import Sequential, SequentialParams, SpawnJoin, SpawnJoinParams, ThinkingProtocol
from rollout.protocols.base import (
    Ask,
    Barrier,
    BarrierKind,
    Budgets,
    Continue,
    Fork,
    Return,
    ThreadResult,
    ThreadView,
    whole,
)

TAGS = dict.fromkeys([*SpawnJoin.tags(), *Sequential.tags()])
IDS = {tag: 50 + number for number, tag in enumerate(TAGS)}
EOS = 49


class WordEncoder:
    """Numbers 1..48 are their own ids; tags follow."""

    eos = EOS

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(int(word) for word in text.split())

    def token(self, tag: str) -> int:
        return IDS[tag]


def ids(text: str) -> tuple[int, ...]:
    return tuple(EOS if word == "<eos>" else IDS.get(word) or int(word) for word in text.split())


def spawn_join(**params: object) -> SpawnJoin:
    return SpawnJoin(SpawnJoinParams.model_validate({"name": "spawn_join", **params}), WordEncoder())


def drive(
    protocol: ThinkingProtocol,
    say: Callable[[Generate], tuple[int, ...]],
    *,
    budgets: Budgets | None = None,
    pick: Callable[[int], int] = lambda n: 0,
    max_length: int = 1000,
    fail: Callable[[Generate], bool] = lambda _: False,
) -> Episode:
    """Runs a machine; `pick(n)` chooses which of n calls in flight comes back next."""
    machine = EpisodeMachine(
        protocol, (1, 2, 3), id="0/0", problem="p", budgets=budgets or Budgets(), max_length=max_length
    )
    flying: list[tuple[Generate, bool]] = []

    def take(commands: list[object]) -> None:
        for command in commands:
            if isinstance(command, Cancel):
                flying[:] = [(g, cancelled or g.call == command.call) for g, cancelled in flying]
            else:
                assert isinstance(command, Generate)
                flying.append((command, False))

    take(list(machine.begin()))
    while not machine.done:
        assert flying, "deadlock"
        generate, cancelled = flying.pop(pick(len(flying)))
        take(
            list(
                machine.on_result(generate.call, _result(generate, say(generate), cancelled, fail(generate)))
            )
        )
    assert not flying
    return machine.episode()


def _result(generate: Generate, said: tuple[int, ...], cancelled: bool, failed: bool) -> CallResult:
    if failed:
        return CallResult(output=(), logprobs=(), versions=(), stop=StopReason.ERROR)
    output: list[int] = []
    stop = StopReason.LENGTH
    for token in said[: generate.max_tokens]:
        output.append(token)
        if token in generate.stops:
            stop = StopReason.STOP
            break
    if cancelled:
        output, stop = output[: len(output) // 2], StopReason.ABORT
    spans = (VersionSpan(version=0, start=0, stop=len(output)),)
    return CallResult(output=tuple(output), logprobs=(-1.0,) * len(output), versions=spans, stop=stop)


def scripted(lines: dict[tuple[tuple[int, ...], int], str]) -> Callable[[Generate], tuple[int, ...]]:
    return lambda generate: ids(lines[generate.path, generate.number])


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
        ("1 2 <join>", ViolationKind.UNEXPECTED_TOKEN),
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


def test_children_beyond_the_width_are_dropped_and_recorded() -> None:
    lines = {((key,), 0): "<nothing> <eos>" for key in range(3)}
    episode = drive(
        spawn_join(),
        scripted({((), 0): "<spawn> 1 <and> 2 <and> 3 <join>", ((), 1): "<giveup> <eos>", **lines}),
        budgets=Budgets(width=2),
    )
    assert width(episode) == 2
    assert [violation.kind for violation in episode.violations] == [ViolationKind.TOO_MANY_CHILDREN]


def test_spawn_budget_prefix_conditions_the_parent_only() -> None:
    protocol = spawn_join(budget_prefix=True, spawn_budget=4)
    episode = drive(protocol, scripted({((), 0): "<giveup> <eos>"}))
    assert episode.context_ids(episode.calls[0]) == ids("<parent> <budget> 4 1 2 3 <think>")


class FirstOf(SpawnJoin):
    """Three children; the first to return wins and the others are cancelled."""

    name: ClassVar[str] = "first_of"

    def open(self, prompt: tuple[int, ...], tree: object = None) -> Ask:
        return Ask(role="root", context=(Forced(ids=prompt),), stops=(EOS,), max_tokens=4)

    def on_call(self, thread: ThreadView) -> Continue | Fork | Return:
        if thread.path:
            return Return(outcome=ThreadOutcome.RETURNED, value=(whole(thread.last),))
        child = Ask(role="child", context=(whole(thread.last),), stops=(EOS,), max_tokens=8)
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


def _random_words(rng: random.Random) -> Callable[[Generate], tuple[int, ...]]:
    """Text that often follows the rules and often breaks them."""
    structural = list(IDS.values())
    return lambda _: tuple(
        rng.choice(structural) if rng.random() < 0.4 else (EOS if rng.random() < 0.1 else rng.randint(1, 48))
        for _ in range(60)
    )


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
        spawn_join(rounds=rounds, parent_tokens=40, child_tokens=30)
        if kind == "spawn_join"
        else Sequential(SequentialParams(name="sequential", max_tokens=50), WordEncoder())
    )

    def say(generate: Generate) -> tuple[int, ...]:
        assert len(generate.prompt) + generate.max_tokens <= max_length
        return _random_words(rng)(generate)

    episode = drive(
        protocol,
        say,
        budgets=budgets,
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
    for thread in episode.threads[1:]:
        assert thread.opened_by is not None
        forks[thread.opened_by] = forks.get(thread.opened_by, 0) + 1
    assert all(count <= width_budget for count in forks.values())
    assert decode_episode(encode_episode(episode)) == episode
