"""async_fork: forks that do not wait, joins by index, a pool of calls."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_lab import EOS, IDS, build, drive, ids, scripted, text

from data.episodes.topology import critical_tokens, depth, total_tokens, width
from data.episodes.trajectory import EdgeKind, Episode, Limit, Ref, ThreadOutcome, ViolationKind
from data.tasks.search_tree import SearchNode, SearchTree
from data.text.prompt import Prompt
from rollout.commands import Generate
from rollout.demonstrate import demonstrate

LINES = {
    ((), 0): "5 <FORK> 1 : 6 7 </FORK>",
    ((), 1): "<FORK> 2 : 8 </FORK>",
    ((0,), 0): "9 9 9 9 9 9 9 9 9 <found> 11 <eos>",
    ((), 2): "<JOIN> 2 </JOIN>",
    ((1,), 0): "12 <nothing> <eos>",
    ((), 3): "<JOIN> 1 </JOIN>",
    ((), 4): "<answer> 11 <eos>",
}
WORKER = "<nothing> <eos>"


def contexts(episode: Episode) -> list[str]:
    return [text(episode.context_ids(call)) for call in episode.calls]


def last_seen(episode: Episode) -> str:
    """What the organizer sees when it speaks for the last time."""
    return text(episode.context_ids([call for call in episode.calls if call.thread == 0][-1]))


def kinds(episode: Episode) -> list[tuple[ViolationKind, int, int | None]]:
    return [(violation.kind, violation.call, violation.position) for violation in episode.violations]


@pytest.mark.parametrize("seed", range(5))
def test_the_organizer_goes_on_while_workers_run_and_waits_only_where_it_joins(seed: int) -> None:
    episode = drive(build("async_fork"), scripted(LINES), pick=random.Random(seed).randrange)
    opened = "<organizer> 1 2 3 <think>"
    forked = f"{opened} 5 <FORK> 1 : 6 7 </FORK> <FORK> 2 : 8 </FORK>"
    assert contexts(episode) == [
        opened,
        f"{opened} 5 <FORK> 1 : 6 7 </FORK>",
        forked,
        "<worker> 6 7 <think>",
        "<worker> 8 <think>",
        f"{forked} <JOIN> 2 </JOIN> <nothing> <end>",
        f"{forked} <JOIN> 2 </JOIN> <nothing> <end> <JOIN> 1 </JOIN> <found> 11 <end>",
    ]
    assert [[(edge.kind, edge.call) for edge in call.after] for call in episode.calls] == [
        [],
        [(EdgeKind.NEXT, 0)],
        [(EdgeKind.NEXT, 1)],
        [(EdgeKind.FORK, 0)],
        [(EdgeKind.FORK, 1)],
        [(EdgeKind.NEXT, 2), (EdgeKind.JOIN, 4)],
        [(EdgeKind.NEXT, 5), (EdgeKind.JOIN, 3)],
    ]
    assert episode.calls[3].context[1] == Ref(call=0, start=4, stop=6)
    assert episode.calls[6].context[-2] == Ref(call=3, start=9, stop=11)
    assert total_tokens(episode) == 7 + 5 + 3 + 12 + 3 + 3 + 3
    # The join of 2 is at 7 + 5 + 3 = 15 on both sides, the next at 18; worker 1 ends at 7 + 12 = 19.
    assert critical_tokens(episode) == 19 + 3
    assert (width(episode), depth(episode)) == (2, 1)
    assert episode.answer_ids() == (11,) and not episode.violations
    assert [thread.success for thread in episode.threads] == [True, True, False]


@pytest.mark.parametrize(
    ("calls", "critical"),
    [
        # The second worker starts when the first has ended, at 19: the joins are at 22 and 25.
        (2, 19 + 3 + 3 + 3),
        # Nothing runs beside anything.
        (1, 36),
    ],
)
def test_waiting_for_a_place_in_the_pool_is_on_the_critical_path(calls: int, critical: int) -> None:
    episode = drive(build("async_fork", budgets={"live_calls": calls}), scripted(LINES))
    assert total_tokens(episode) == 36
    assert critical_tokens(episode) == critical
    assert [thread.outcome for thread in episode.threads] == [ThreadOutcome.RETURNED] * 3
    assert any(edge.kind is EdgeKind.SLOT for call in episode.calls for edge in call.after)


@pytest.mark.parametrize(
    ("said", "told", "violations"),
    [
        ("<JOIN> 4 </JOIN>", "<nothing> <end>", [("join_without_fork", 0)]),
        ("<JOIN> </JOIN>", "<nothing> <end>", [("missing_index", 0)]),
        ("<JOIN> <think> </JOIN>", "<nothing> <end>", [("missing_index", 0)]),
        ("4 </JOIN>", "", [("stray_tag", 1)]),
        ("4 </FORK>", "", [("stray_tag", 1)]),
        ("<FORK> 6 7 </FORK>", "", [("missing_index", 0)]),
        ("<FORK> </FORK>", "", [("missing_index", 0)]),
        ("4 <FORK> 1 : </FORK>", "", [("empty_child", 1)]),
        ("<FORK> 1 : 5 <JOIN> 1 </JOIN>", "<nothing> <end>", [("unclosed_tag", 0), ("join_without_fork", 4)]),
        ("<JOIN> 1 <FORK> 5 </FORK>", "", [("unclosed_tag", 0), ("missing_index", 2)]),
    ],
)
def test_what_opens_or_joins_nobody_is_noted_with_its_place_and_the_organizer_goes_on(
    said: str, told: str, violations: list[tuple[str, int]]
) -> None:
    episode = drive(build("async_fork"), scripted({((), 0): said, ((), 1): "<answer> 7 <eos>"}))
    assert kinds(episode) == [(ViolationKind(kind), 0, position) for kind, position in violations]
    assert contexts(episode)[1] == f"<organizer> 1 2 3 <think> {said} {told}".strip()
    assert len(episode.threads) == 1 and episode.answer_ids() == (7,)


@pytest.mark.parametrize(
    ("said", "kind", "answer"),
    [
        ("<FORK> 1 : 5 <answer> 7 <eos>", ViolationKind.UNCLOSED_TAG, (7,)),
        ("<JOIN> 1 <answer> 7 <eos>", ViolationKind.UNCLOSED_TAG, (7,)),
        ("5 <eos>", ViolationKind.MALFORMED_ANSWER, None),
    ],
)
def test_an_end_is_read_even_behind_an_open_tag(
    said: str, kind: ViolationKind, answer: tuple[int, ...] | None
) -> None:
    episode = drive(build("async_fork"), scripted({((), 0): said}))
    assert [found[0] for found in kinds(episode)] == [kind]
    assert episode.answer_ids() == answer


def test_an_index_names_one_worker_for_good() -> None:
    lines = {
        ((), 0): "<FORK> 1 : 5 </FORK>",
        ((), 1): "4 <FORK> 1 : 6 </FORK>",
        ((), 2): "<JOIN> 1 </JOIN>",
        ((), 3): "<JOIN> 1 </JOIN>",
        ((), 4): "<FORK> 1 : 6 </FORK>",
        ((), 5): "<giveup> <eos>",
        ((0,), 0): "<found> 8 <eos>",
    }
    episode = drive(build("async_fork", nobody="41 42"), scripted(lines))
    assert kinds(episode) == [
        (ViolationKind.DUPLICATE_INDEX, 1, 1),
        (ViolationKind.JOIN_WITHOUT_FORK, 4, 0),
        (ViolationKind.DUPLICATE_INDEX, 5, 0),
    ]
    assert last_seen(episode).endswith("<JOIN> 1 </JOIN> <found> 8 <end> <JOIN> 1 </JOIN> 41 42 <end> "
                                          "<FORK> 1 : 6 </FORK>")  # fmt: skip
    assert width(episode) == 1 and episode.outcome is ThreadOutcome.RETURNED


def test_more_forks_than_allowed_are_noted_and_not_opened() -> None:
    lines = {((), k): f"<FORK> {k + 1} : 5 </FORK>" for k in range(3)} | {((), 3): "<giveup> <eos>"}
    lines |= {((k,), 0): WORKER for k in range(2)}
    episode = drive(build("async_fork", forks=2), scripted(lines))
    assert kinds(episode) == [(ViolationKind.FORK_NOT_ALLOWED, 2, 0)] and len(episode.threads) == 3


@pytest.mark.parametrize(
    ("worker", "outcome", "told", "params"),
    [
        ("9 <eos>", ThreadOutcome.MALFORMED, "<nothing>", {}),
        ("<found> <eos>", ThreadOutcome.MALFORMED, "<nothing>", {}),
        ("9 9 9 9 9", ThreadOutcome.TRUNCATED, "<nothing>", {"worker_tokens": 4}),
        ("9 9 9 9 9", ThreadOutcome.TRUNCATED, "40", {"worker_tokens": 4, "notices": {"truncated": "40"}}),
    ],
)
def test_the_organizer_reads_one_line_of_a_worker_that_failed(
    worker: str, outcome: ThreadOutcome, told: str, params: dict[str, object]
) -> None:
    lines = {
        ((), 0): "<FORK> 1 : 5 </FORK>",
        ((), 1): "<JOIN> 1 </JOIN>",
        ((), 2): "<giveup> <eos>",
        ((0,), 0): worker,
    }
    episode = drive(build("async_fork", **params), scripted(lines))
    assert episode.threads[1].outcome is outcome
    assert last_seen(episode).endswith(f"<JOIN> 1 </JOIN> {told} <end>")


def test_a_worker_that_is_begun_anew_keeps_its_index() -> None:
    lines = {
        ((), 0): "<FORK> 7 : 5 </FORK>",
        ((0,), 0): "9 9 <eos>",
        ((1,), 0): "<found> 8 <eos>",
        ((), 1): "<JOIN> 7 </JOIN>",
        ((), 2): "<answer> 8 <eos>",
    }
    episode = drive(build("async_fork", on_failure="retry"), scripted(lines))
    assert last_seen(episode).endswith("<JOIN> 7 </JOIN> <found> 8 <end>")
    assert critical_tokens(episode) == 5 + 3 + 3 + 3


def test_workers_that_nobody_joined_are_cancelled_and_their_tokens_count() -> None:
    lines = {
        ((), 0): "<FORK> 1 : 5 </FORK>",
        ((), 1): "<answer> 7 <eos>",
        ((0,), 0): "9 9 9 9 9 9 9 <eos>",
    }
    episode = drive(build("async_fork"), scripted(lines))
    assert [thread.outcome for thread in episode.threads] == [
        ThreadOutcome.RETURNED,
        ThreadOutcome.CANCELLED,
    ]
    # Half of its eight tokens had been sampled; it is nobody's wait.
    assert total_tokens(episode) == 5 + 3 + 4 and critical_tokens(episode) == 5 + 4


def test_a_join_of_several_can_wait_for_the_first() -> None:
    lines = {
        ((), 0): "<FORK> 1 : 5 </FORK>",
        ((), 1): "<FORK> 2 : 6 </FORK>",
        ((), 2): "<JOIN> 2 1 4 2 </JOIN>",
        ((0,), 0): "9 9 9 9 9 9 9 <nothing> <eos>",
        ((1,), 0): "<found> 8 <eos>",
        ((), 3): "<answer> 8 <eos>",
    }
    order = iter([0, 0, 1, 1, 0, 0])  # the organizer, the organizer again, and again; the second worker
    episode = drive(build("async_fork", wait="first"), scripted(lines), pick=lambda _: next(order))
    assert last_seen(episode).endswith("</JOIN> <found> 8 <nothing> <nothing> <nothing> <end>")
    assert episode.threads[1].outcome is ThreadOutcome.CANCELLED
    # Nobody is called 4, and 2 is named twice.
    assert [kind for kind, _, _ in kinds(episode)] == [ViolationKind.JOIN_WITHOUT_FORK] * 2


def test_the_organizers_tokens_are_those_of_all_its_calls() -> None:
    lines = {
        ((), 0): "<FORK> 1 : 5 </FORK>",
        ((), 1): "<JOIN> 1 </JOIN>",
        ((), 2): "<answer> 7 <eos>",
        ((0,), 0): WORKER,
    }
    assert drive(build("async_fork", organizer_tokens=11), scripted(lines)).answer_ids() == (7,)
    for tokens in (5, 8, 10):
        episode = drive(build("async_fork", organizer_tokens=tokens), scripted(lines))
        assert (episode.outcome, episode.threads[0].limit) == (ThreadOutcome.TRUNCATED, Limit.CALL)
    assert len(drive(build("async_fork", organizer_tokens=5), scripted(lines)).threads) == 1


def test_workers_may_fork_as_deep_as_the_budget_says() -> None:
    lines = {
        ((), 0): "<FORK> 1 : 5 </FORK>",
        ((), 1): "<JOIN> 1 </JOIN>",
        ((), 2): "<answer> 7 <eos>",
        ((0,), 0): "<FORK> 1 : 6 </FORK>",
        ((0, 0), 0): "<found> 8 <eos>",
        ((0,), 1): "<JOIN> 1 </JOIN>",
        ((0,), 2): "<found> 4 8 <eos>",
    }
    episode = drive(build("async_fork", budgets={"depth": 2}), scripted(lines))
    assert depth(episode) == 2 and last_seen(episode).endswith("<found> 4 8 <end>")
    episode = drive(build("async_fork", budgets={"depth": 1}), scripted(lines))
    assert [kind for kind, _, _ in kinds(episode)] == [ViolationKind.TOO_DEEP]
    inner = next(call for call in episode.calls if call.thread == 1 and len(call.after) == 1)
    assert "<nothing> <end>" not in text(episode.context_ids(inner))
    assert "<worker> 5 <think> <FORK> 1 : 6 </FORK> <JOIN> 1 </JOIN> <nothing> <end>" in contexts(episode)


PARTS = SearchTree(
    children=(
        SearchNode(move="3 4", message="3 4", trace="7", solution="7"),
        SearchNode(move="9 1", message="9 1", trace="8", solution="8"),
        SearchNode(move="20", message="20", trace="7 8 15", solution="15", needs=(0, 1)),
        SearchNode(move="2 5", message="2 5", trace="10", solution="10"),
    ),
    solution="40",
    every=True,
    conclusion="7 8 15 10 40",
)


def test_a_part_that_needs_others_is_forked_with_their_solutions_as_soon_as_they_are_joined() -> None:
    episode = demonstrate(
        build("async_fork"), Prompt("1 2 3"), PARTS, id="0", problem_id="p", max_length=1000
    )
    assert episode is not None
    assert " ".join(text(call.output) for call in episode.calls if call.thread == 0) == (
        "<FORK> 1 : 3 4 </FORK> <FORK> 2 : 9 1 </FORK> <FORK> 4 : 2 5 </FORK> "
        "<JOIN> 1 </JOIN> <JOIN> 2 </JOIN> <FORK> 3 : 20 <found> 7 <found> 8 </FORK> "
        "<JOIN> 3 </JOIN> <JOIN> 4 </JOIN> 7 8 15 10 40 <answer> 40 <eos>"
    )
    assert "<worker> 20 <found> 7 <found> 8 <think>" in contexts(episode)
    assert episode.answer_ids() == (40,) and width(episode) == 4


def test_alternatives_are_joined_until_one_has_the_answer() -> None:
    tried = tuple(
        SearchNode(move=f"{key}", message=f"{key}", trace="9", solution="9 1" if key == 2 else None)
        for key in (1, 2, 3)
    )
    tree = SearchTree(children=tried, solution="9 1")
    episode = demonstrate(build("async_fork"), Prompt("1 2 3"), tree, id="0", problem_id="p", max_length=1000)
    assert episode is not None and episode.answer_ids() == (9, 1)
    assert last_seen(episode).endswith("<JOIN> 1 </JOIN> <nothing> <end> <JOIN> 2 </JOIN> <found> 9 1 <end>")


STRUCTURE = ("<FORK>", "</FORK>", "<JOIN>", "</JOIN>", ":", "<found>", "<nothing>", "<answer>", "<giveup>")


@settings(max_examples=400, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    live=st.integers(1, 4),
    depth_budget=st.integers(0, 2),
    wait=st.sampled_from(["all", "first", "success"]),
    on_failure=st.sampled_from(["tell", "retry", "fail"]),
    total=st.integers(1, 300),
)
def test_any_words_end_within_the_budgets(
    seed: int, live: int, depth_budget: int, wait: str, on_failure: str, total: int
) -> None:
    rng = random.Random(seed)
    budgets = {"live_calls": live, "depth": depth_budget, "total_tokens": total}
    protocol = build(
        "async_fork", forks=4, wait=wait, on_failure=on_failure, organizer_tokens=60, budgets=budgets
    )

    def say(_: Generate) -> tuple[int, ...]:
        shapes = (
            [IDS["<FORK>"], rng.randint(1, 3), IDS[":"], rng.randint(1, 9), IDS["</FORK>"]],
            [IDS["<JOIN>"], rng.randint(1, 3), IDS["</JOIN>"]],
            [IDS[rng.choice(STRUCTURE)]],
            [rng.randint(1, 48), rng.choice([EOS, 5])],
        )
        return tuple(token for _ in range(12) for token in rng.choice(shapes))

    episode = drive(protocol, say, pick=rng.randrange, fail=lambda _: rng.random() < 0.1)
    assert total_tokens(episode) <= total
    ran = {call.thread for call in episode.calls}
    assert all(episode.threads[thread].depth <= depth_budget for thread in ran)
    for thread in episode.threads:
        asked = sum(len(call.output) for call in episode.calls if call.thread == thread.index)
        assert asked <= (60 if thread.parent is None else 96)
    assert {violation.kind for violation in episode.violations} <= {
        ViolationKind.STRAY_TAG,
        ViolationKind.UNCLOSED_TAG,
        ViolationKind.MISSING_INDEX,
        ViolationKind.EMPTY_CHILD,
        ViolationKind.DUPLICATE_INDEX,
        ViolationKind.JOIN_WITHOUT_FORK,
        ViolationKind.FORK_NOT_ALLOWED,
        ViolationKind.TOO_DEEP,
        ViolationKind.MALFORMED_ANSWER,
        ViolationKind.MALFORMED_RETURN,
    }


def test_published_line_breaks_and_glued_colons_mean_the_same() -> None:
    said = build("async_fork").say("<FORK>\n1: 6 7\n</FORK>")
    assert said == ids("<FORK> 1 : 6 7 </FORK>")
