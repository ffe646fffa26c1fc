"""subtask_tree: what stays of a finished subtask, lists of subtasks, nesting."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_lab import EOS, IDS, PARTS, build, drive, scripted, text

from data.episodes.topology import critical_tokens, depth, total_tokens, width
from data.episodes.trajectory import EdgeKind, Episode, Limit, Ref, ThreadOutcome, ViolationKind
from data.tasks.search_tree import SearchNode, SearchTree
from data.text.prompt import Prompt
from rollout.commands import Generate
from rollout.demonstrate import demonstrate

OPENED = "<tree> 1 2 3 <think>"


def contexts(episode: Episode) -> list[str]:
    return [text(episode.context_ids(call)) for call in episode.calls]


def kinds(episode: Episode) -> list[tuple[str, int, int | None]]:
    return [(violation.kind.value, violation.call, violation.position) for violation in episode.violations]


def test_the_working_of_a_finished_subtask_leaves_and_its_goal_and_conclusion_stay() -> None:
    lines = {
        ((), 0): "4 <sub> 5 6 <think> 7 <sub> 8 <think> 9 10 <done> 11 </sub>",
        ((), 1): "12 <sub> 13 <think> 14 <done> <nothing> </sub>",
        ((), 2): "15 <done> 16 17 </sub>",
        ((), 3): "<answer> 18 <eos>",
    }
    episode = drive(build("subtask_tree"), scripted(lines))
    inner = f"{OPENED} 4 <sub> 5 6 <think> 7 <sub> 8 <done> 11 </sub>"
    assert contexts(episode) == [
        OPENED,
        inner,
        f"{inner} 12 <sub> 13 <done> <nothing> </sub>",
        f"{OPENED} 4 <sub> 5 6 <done> 16 17 </sub>",
    ]
    # 4 <sub> 5 6 of call 0, and <done> 16 17 </sub> of call 2, as they were sampled.
    assert episode.calls[3].context[1:] == (Ref(call=0, start=0, stop=4), Ref(call=2, start=1, stop=5))
    assert total_tokens(episode) == critical_tokens(episode) == 14 + 8 + 5 + 3
    assert (width(episode), depth(episode)) == (0, 0)
    assert episode.answer_ids() == (18,) and not episode.violations


LISTED = {
    ((), 0): "4 <sub> 5 <think> 6 <sub> 7 <and> 8 9 <run>",
    ((0,), 0): "10 10 10 10 <done> 11 </sub>",
    ((1,), 0): "<sub> 12 <think> 13 <done> 14 </sub>",
    ((1,), 1): "15 <done> <nothing> </sub>",
    ((), 1): "16 <done> 17 </sub>",
    ((), 2): "<answer> 18 <eos>",
}


@pytest.mark.parametrize("seed", range(4))
def test_a_list_of_subtasks_runs_at_once_and_each_sees_the_goals_around_it(seed: int) -> None:
    episode = drive(build("subtask_tree"), scripted(LISTED), pick=random.Random(seed).randrange)
    assert contexts(episode) == [
        OPENED,
        "<tree> 1 2 3 <sub> 5 <sub> 7 <think>",
        "<tree> 1 2 3 <sub> 5 <sub> 8 9 <think>",
        "<tree> 1 2 3 <sub> 5 <sub> 8 9 <think> <sub> 12 <done> 14 </sub>",
        f"{OPENED} 4 <sub> 5 <think> 6 <sub> 7 <done> 11 </sub> <sub> 8 9 <done> <nothing> </sub>",
        f"{OPENED} 4 <sub> 5 <done> 17 </sub>",
    ]
    assert [(edge.kind, edge.call) for edge in episode.calls[4].after] == [
        (EdgeKind.NEXT, 0),
        (EdgeKind.JOIN, 1),
        (EdgeKind.JOIN, 3),
    ]
    assert total_tokens(episode) == 11 + 7 + 7 + 4 + 4 + 3
    # The second subtask takes two calls, 7 + 4.
    assert critical_tokens(episode) == 11 + 11 + 4 + 3
    assert (width(episode), depth(episode)) == (2, 1)
    assert [thread.success for thread in episode.threads] == [True, True, False]


def test_subtasks_open_threads_of_their_own_as_deep_as_the_budget_says() -> None:
    lines = {
        ((), 0): "<sub> 5 <and> 6 <run>",
        ((0,), 0): "<sub> 7 <and> 8 <run>",
        ((0, 0), 0): "<done> 9 </sub>",
        ((0, 1), 0): "<done> 10 </sub>",
        ((0,), 1): "<done> 11 </sub>",
        ((1,), 0): "<done> 12 </sub>",
        ((), 1): "<answer> 13 <eos>",
    }
    episode = drive(build("subtask_tree", budgets={"depth": 2}), scripted(lines))
    assert depth(episode) == 2 and not episode.violations
    assert "<tree> 1 2 3 <sub> 5 <sub> 8 <think>" in contexts(episode)
    assert "<tree> 1 2 3 <sub> 5 <think> <sub> 7 <done> 9 </sub> <sub> 8 <done> 10 </sub>" in contexts(
        episode
    )
    episode = drive(build("subtask_tree", budgets={"depth": 1}), scripted(lines))
    assert kinds(episode) == [("too_deep", 1, None)]
    refused = "<sub> 7 <done> <nothing> </sub> <sub> 8 <done> <nothing> </sub>"
    assert f"<tree> 1 2 3 <sub> 5 <think> {refused}" in contexts(episode)


@pytest.mark.parametrize(
    ("said", "violations"),
    [
        ("4 </sub>", [("stray_tag", 1)]),
        ("4 <done> 5 </sub>", [("stray_tag", 3)]),
        ("4 <run>", [("stray_tag", 1)]),
        ("<sub> 5 <think> 6 <run>", [("stray_tag", 4)]),
        ("<sub> <run>", [("empty_child", 0), ("no_children", 0)]),
        ("<sub> <and> <run>", [("empty_child", 0), ("no_children", 0), ("empty_child", 1)]),
        ("4 <eos>", [("malformed_answer", 1)]),
        ("<sub> 5 <think> 6 <eos>", [("unclosed_tag", 4), ("malformed_answer", 4)]),
    ],
)
def test_what_cannot_go_on_ends_the_episode_with_its_place(
    said: str, violations: list[tuple[str, int]]
) -> None:
    episode = drive(build("subtask_tree"), scripted({((), 0): said}))
    assert kinds(episode) == [(kind, 0, position) for kind, position in violations]
    assert episode.outcome is ThreadOutcome.MALFORMED and len(episode.threads) == 1


@pytest.mark.parametrize(
    ("said", "violations", "seen"),
    [
        ("<sub> 5 <think> 6 </sub>", [("malformed_return", 4)], "<sub> 5 </sub>"),
        ("<sub> 5 <think> 6 <done> </sub>", [("malformed_return", 5)], "<sub> 5 <done> </sub>"),
        ("<sub> 5 </sub>", [("malformed_return", 2)], "<sub> 5 </sub>"),
        ("<sub> 5 <done> 6 </sub>", [], "<sub> 5 <done> 6 </sub>"),
        ("<sub> <think> 6 <done> 7 </sub>", [("empty_child", 0)], "<sub> <done> 7 </sub>"),
        (
            "<sub> 5 <sub> 6 <think> 7 <done> 8 </sub>",
            [("unclosed_tag", 0)],
            "<sub> 5 <sub> 6 <done> 8 </sub>",
        ),
        ("<done> 4 <sub> 5 <think> 6 </sub>", [("malformed_return", 6)], "<done> 4 <sub> 5 </sub>"),
        ("<sub> 5 <think> 6 <done> 7 <done> 8 </sub>", [], "<sub> 5 <done> 8 </sub>"),
    ],
)
def test_slips_in_a_subtask_are_noted_and_the_line_of_thought_goes_on(
    said: str, violations: list[tuple[str, int]], seen: str
) -> None:
    episode = drive(build("subtask_tree"), scripted({((), 0): said, ((), 1): "<giveup> <eos>"}))
    assert kinds(episode) == [(kind, 0, position) for kind, position in violations]
    assert contexts(episode)[1] == f"{OPENED} {seen}"
    assert episode.outcome is ThreadOutcome.RETURNED


def test_an_answer_inside_a_subtask_counts_and_is_noted() -> None:
    episode = drive(build("subtask_tree"), scripted({((), 0): "<sub> 5 <think> <answer> 7 <eos>"}))
    assert kinds(episode) == [("unclosed_tag", 0, 5)] and episode.answer_ids() == (7,)


@pytest.mark.parametrize(
    ("said", "outcome", "told", "params"),
    [
        ("9 <eos>", ThreadOutcome.MALFORMED, "<nothing>", {}),
        ("9 </sub>", ThreadOutcome.MALFORMED, "<nothing>", {}),
        ("9 <done> </sub>", ThreadOutcome.MALFORMED, "<nothing>", {}),
        ("<sub> 9 <think> <done> 10 <eos>", ThreadOutcome.MALFORMED, "<nothing>", {}),
        ("9 9 9 9 9 9 9", ThreadOutcome.TRUNCATED, "<nothing>", {"call_tokens": 6}),
        ("9 <eos>", ThreadOutcome.MALFORMED, "40", {"notices": {"malformed": "40"}}),
    ],
)
def test_the_parent_reads_one_line_of_a_subtask_that_failed(
    said: str, outcome: ThreadOutcome, told: str, params: dict[str, object]
) -> None:
    lines = {
        ((), 0): "<sub> 5 <and> <and> 6 <run>",
        ((0,), 0): said,
        ((1,), 0): "<done> 7 </sub>",
        ((), 1): "<giveup> <eos>",
    }
    episode = drive(build("subtask_tree", **params), scripted(lines))
    assert episode.threads[1].outcome is outcome
    assert contexts(episode)[-1] == f"{OPENED} <sub> 5 <done> {told} </sub> <sub> 6 <done> 7 </sub>"
    assert kinds(episode)[0] == ("empty_child", 0, 2)


def test_the_first_subtask_to_succeed_can_end_the_wait() -> None:
    lines = {
        ((), 0): "<sub> 5 <and> 6 <and> 7 <run>",
        ((0,), 0): "<done> <nothing> </sub>",
        ((1,), 0): "<done> 8 </sub>",
        ((2,), 0): "9 9 9 9 9 <done> 8 </sub>",
        ((), 1): "<answer> 8 <eos>",
    }
    episode = drive(build("subtask_tree", wait="success"), scripted(lines))
    assert episode.threads[3].outcome is ThreadOutcome.CANCELLED
    seen = text(episode.context_ids([call for call in episode.calls if call.thread == 0][-1]))
    assert seen.endswith("<sub> 6 <done> 8 </sub> <sub> 7 <done> <nothing> </sub>")
    assert critical_tokens(episode) == 7 + 3 + 3


@pytest.mark.parametrize("second", ["<sub> 5 <think> 6 <done> 7 </sub>", "<sub> 5 <and> 6 <run>"])
def test_a_thread_has_so_many_calls_and_no_more(second: str) -> None:
    lines = {((), 0): "<sub> 5 <think> 6 <done> 7 </sub>", ((), 1): second}
    episode = drive(build("subtask_tree", calls=2), scripted(lines))
    assert (episode.outcome, episode.threads[0].limit) == (ThreadOutcome.TRUNCATED, Limit.CALL)
    assert len(episode.calls) == 2 and len(episode.threads) == 1


def test_a_thread_thinks_for_longer_than_its_context_is_long() -> None:
    lines = {((), k): "<sub> 5 <think> 6 6 6 6 6 6 6 6 <done> 7 </sub>" for k in range(3)}
    lines[(), 3] = "<answer> 7 <eos>"
    episode = drive(build("subtask_tree", call_tokens=14), scripted(lines), max_length=29)
    assert episode.answer_ids() == (7,) and total_tokens(episode) == 3 * 14 + 3


def said(episode: Episode) -> list[str]:
    return [text(call.output) for call in episode.calls]


def test_parts_are_taught_at_once_as_far_as_their_needs_allow() -> None:
    episode = demonstrate(
        build("subtask_tree"), Prompt("1 2 3"), PARTS, id="0", problem_id="p", max_length=1000
    )
    assert episode is not None
    assert said(episode) == [
        "<sub> 3 4 <and> 9 1 <run>",
        "7 <done> 7 </sub>",
        "8 <done> 8 </sub>",
        "<sub> 20 <found> 7 <found> 8 <think> 7 8 15 <done> 15 </sub>",
        "7 8 15 30 <answer> 30 <eos>",
    ]
    two = (*PARTS.children, SearchNode(move="21", message="21", trace="22", solution="22", needs=(1,)))
    tree = SearchTree(children=two, solution="30", every=True)
    episode = demonstrate(
        build("subtask_tree"), Prompt("1 2 3"), tree, id="0", problem_id="p", max_length=1000
    )
    assert episode is not None and width(episode) == 4
    assert "<sub> 20 <found> 7 <found> 8 <and> 21 <found> 8 <run>" in said(episode)


def test_the_same_search_can_be_taught_one_subtask_after_the_other() -> None:
    protocol = build("subtask_tree", style="one_by_one")
    episode = demonstrate(protocol, Prompt("1 2 3"), PARTS, id="0", problem_id="p", max_length=1000)
    assert episode is not None and width(episode) == 0
    assert said(episode) == [
        "<sub> 3 4 <think> 7 <done> 7 </sub>",
        "<sub> 9 1 <think> 8 <done> 8 </sub>",
        "<sub> 20 <found> 7 <found> 8 <think> 7 8 15 <done> 15 </sub>",
        "7 8 15 30 <answer> 30 <eos>",
    ]
    tried = tuple(
        SearchNode(move=f"{key}", message=f"{key}", trace="9", solution="9 1" if key == 2 else None)
        for key in (1, 2, 3)
    )
    tree = SearchTree(children=tried, solution="9 1")
    episode = demonstrate(protocol, Prompt("1 2 3"), tree, id="0", problem_id="p", max_length=1000)
    assert episode is not None
    assert said(episode) == [
        "<sub> 1 <think> 9 <done> <nothing> </sub>",
        "<sub> 2 <think> 9 <done> 9 1 </sub>",
        "<answer> 9 1 <eos>",
    ]


@pytest.mark.parametrize("style", ["at_once", "one_by_one"])
def test_nested_searches_are_taught_as_nested_subtasks(style: str) -> None:
    leaves = tuple(
        SearchNode(move=f"{move}", message="", trace="9", solution="7 8" if move == 31 else None, prefix="7")
        for move in (30, 31)
    )
    tree = SearchTree(
        children=(
            SearchNode(move="20", message="", trace="10", solution=None),
            SearchNode(move="21", message="", trace="11", solution="7 8", children=leaves),
        ),
        solution="7 8",
    )
    protocol = build("subtask_tree", style=style, budgets={"depth": 2})
    episode = demonstrate(protocol, Prompt("1 2 3"), tree, id="0", problem_id="p", max_length=1000)
    assert episode is not None and episode.answer_ids() == (7, 8)
    if style == "at_once":
        assert depth(episode) == 2 and "11 <sub> 30 <and> 31 <run>" in said(episode)
        assert "<tree> 1 2 3 <sub> 21 <sub> 31 <think>" in contexts(episode)
    else:
        assert "<sub> 21 <think> 11 <sub> 30 <think> 9 <done> <nothing> </sub>" in said(episode)
        assert contexts(episode)[-1].endswith("<sub> 21 <done> 7 8 </sub>")


@settings(max_examples=400, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    live=st.integers(1, 4),
    depth_budget=st.integers(0, 3),
    wait=st.sampled_from(["all", "first", "success"]),
    on_failure=st.sampled_from(["tell", "retry", "fail"]),
    total=st.integers(1, 400),
)
def test_any_words_end_within_the_budgets(
    seed: int, live: int, depth_budget: int, wait: str, on_failure: str, total: int
) -> None:
    rng = random.Random(seed)
    budgets = {"live_calls": live, "depth": depth_budget, "total_tokens": total}
    protocol = build(
        "subtask_tree", wait=wait, on_failure=on_failure, call_tokens=24, calls=6, budgets=budgets
    )
    shapes = (
        "<sub> 5 <think> 6",
        "<sub> 5 <and> 6 <run>",
        "<done> 7 </sub>",
        "<done> <nothing> </sub>",
        "<sub> 5",
        "</sub>",
        "<run>",
        "<think>",
        "<answer> 7 <eos>",
    )

    def say(_: Generate) -> tuple[int, ...]:
        words = " ".join(rng.choice(shapes) for _ in range(12)).split()
        return tuple(EOS if w == "<eos>" else IDS[w] if w in IDS else int(w) for w in words)

    episode = drive(protocol, say, pick=rng.randrange, fail=lambda _: rng.random() < 0.1)
    assert total_tokens(episode) <= total
    for thread in episode.threads:
        calls = [call for call in episode.calls if call.thread == thread.index]
        assert len(calls) <= 6 and (not calls or thread.depth <= depth_budget)
        for call in calls[1:]:
            # What was finished has left: behind a goal comes its working or its conclusion, never both.
            shown = text(episode.context_ids(call))
            assert shown.startswith(text(episode.context_ids(calls[0])))
            assert "<think> 6 <done> 7 </sub>" not in shown
    assert {violation.kind for violation in episode.violations} <= {
        ViolationKind.STRAY_TAG,
        ViolationKind.UNCLOSED_TAG,
        ViolationKind.EMPTY_CHILD,
        ViolationKind.NO_CHILDREN,
        ViolationKind.TOO_DEEP,
        ViolationKind.MALFORMED_ANSWER,
        ViolationKind.MALFORMED_RETURN,
    }
