"""outline_guided: planner, paths, vote and aggregator; whose tokens are trained."""

import pytest
from protocol_lab import build, drive, scripted, text

from data.episodes.topology import critical_tokens, depth, total_tokens, width
from data.episodes.trajectory import EdgeKind, Episode, Limit, Ref, ThreadOutcome, ViolationKind
from data.tasks.search_tree import SearchNode, SearchTree
from data.text.prompt import Prompt
from rollout.demonstrate import demonstrate

NAME = "outline_guided"
LINES = {
    ((), 0): "4 5 <and> 6 <and> 7 <eos>",
    ((0,), 0): "8 <answer> 9 <eos>",
    ((1,), 0): "<giveup> <eos>",
    ((2,), 0): "8 8 8 <answer> 10 11 <eos>",
    ((), 1): "12 <answer> 10 11 <eos>",
}


def contexts(episode: Episode) -> list[str]:
    return [text(episode.context_ids(call)) for call in episode.calls]


def test_a_path_sees_the_problem_and_its_own_outline() -> None:
    episode = drive(build(NAME), scripted(LINES))
    assert contexts(episode) == [
        "<planner> 1 2 3 <think>",
        "<solo> 1 2 3 <outline> 4 5 <think>",
        "<solo> 1 2 3 <outline> 6 <think>",
        "<solo> 1 2 3 <outline> 7 <think>",
    ]
    assert episode.calls[1].context[1] == Ref(call=0, start=0, stop=2)
    assert all([(e.kind, e.call) for e in call.after] == [(EdgeKind.FORK, 0)] for call in episode.calls[1:])
    assert [call.role for call in episode.calls] == ["planner", "path", "path", "path"]
    assert episode.answer == (Ref(call=1, start=2, stop=3),)  # one vote each: the earliest
    assert total_tokens(episode) == 7 + 4 + 2 + 7 and critical_tokens(episode) == 7 + 7
    assert (width(episode), depth(episode)) == (3, 1) and not episode.violations


def test_an_aggregator_sees_all_answers() -> None:
    episode = drive(build(NAME, join="aggregate"), scripted(LINES))
    last = episode.calls[-1]
    assert contexts(episode)[-1] == "<aggregate> 1 2 3 <results> 9 <and> <nothing> <and> 10 11 <end> <think>"
    assert (last.role, last.thread) == ("aggregator", 0)
    assert [(edge.kind, edge.call) for edge in last.after] == [
        (EdgeKind.NEXT, 0), (EdgeKind.JOIN, 1), (EdgeKind.JOIN, 2), (EdgeKind.JOIN, 3),
    ]  # fmt: skip
    assert episode.answer_ids() == (10, 11) and critical_tokens(episode) == 7 + 7 + 5


@pytest.mark.parametrize(
    ("line", "kind", "position"),
    [
        ("<eos>", ViolationKind.NO_CHILDREN, 0),
        ("4 <answer> <eos>", ViolationKind.MALFORMED_ANSWER, 2),
    ],
)
def test_a_planner_without_outlines_is_a_typed_violation(
    line: str, kind: ViolationKind, position: int
) -> None:
    episode = drive(build(NAME), scripted({((), 0): line}))
    assert episode.outcome is ThreadOutcome.MALFORMED and len(episode.calls) == 1
    assert (kind, position) in [(violation.kind, violation.position) for violation in episode.violations]


def test_empty_outlines_are_left_out_and_noted() -> None:
    lines = {((), 0): "<and> 4 <and> <eos>", ((0,), 0): "<answer> 9 <eos>"}
    episode = drive(build(NAME), scripted(lines))
    assert contexts(episode)[1:] == ["<solo> 1 2 3 <outline> 4 <think>"]
    assert [(v.kind, v.call, v.position) for v in episode.violations] == [
        (ViolationKind.EMPTY_CHILD, 0, 0),
        (ViolationKind.EMPTY_CHILD, 0, 3),
    ]
    assert episode.answer_ids() == (9,)


def test_a_planner_that_is_cut_off_opens_nothing() -> None:
    episode = drive(build(NAME, planner_tokens=3), scripted(LINES))
    assert (episode.outcome, episode.threads[0].limit) == (ThreadOutcome.TRUNCATED, Limit.CALL)
    assert len(episode.threads) == 1


@pytest.mark.parametrize(("line", "answer"), [("<giveup> <eos>", None), ("4 <answer> 5 <eos>", (5,))])
def test_a_planner_may_do_without_outlines(line: str, answer: tuple[int, ...] | None) -> None:
    episode = drive(build(NAME), scripted({((), 0): line}))
    assert episode.outcome is ThreadOutcome.RETURNED and episode.answer_ids() == answer


def test_more_outlines_than_the_width_do_not_run() -> None:
    episode = drive(build(NAME, join="aggregate", budgets={"width": 2}), scripted(LINES))
    assert [violation.kind for violation in episode.violations] == [ViolationKind.TOO_MANY_CHILDREN]
    assert (
        contexts(episode)[-1] == "<aggregate> 1 2 3 <results> 9 <and> <nothing> <and> <nothing> <end> <think>"
    )


def test_the_first_success_ends_the_other_paths() -> None:
    protocol = build(NAME, wait="success", join="aggregate", notices={"cancelled": "13"})
    episode = drive(protocol, scripted(LINES))
    assert [thread.outcome.value for thread in episode.threads[1:]] == ["returned", "cancelled", "cancelled"]
    [last] = [call for call in episode.calls if call.role == "aggregator"]
    assert text(episode.context_ids(last)) == "<aggregate> 1 2 3 <results> 9 <and> 13 <and> 13 <end> <think>"


@pytest.mark.parametrize(
    ("trained", "roles"),
    [("all", {"planner", "path", "aggregator"}), ("planner", {"planner"}), ("paths", {"path", "aggregator"})],
)
def test_planning_and_paths_are_trained_in_turn(trained: str, roles: set[str]) -> None:
    episode = drive(build(NAME, join="aggregate", trained=trained), scripted(LINES))
    assert {call.role for call in episode.calls if call.num_trained} == roles
    assert all(call.num_trained in (0, len(call.output)) for call in episode.calls)


ALTERNATIVES = SearchTree(
    children=(
        SearchNode(move="1 2", message="0 1 2", trace="3"),
        SearchNode(move="4", message="0 4", trace="5", solution="6 7"),
    ),
    solution="6 7",
)
PARTS = SearchTree(
    children=(
        SearchNode(move="1 2", message="1 2", trace="3", solution="3"),
        SearchNode(move="4", message="4", trace="5", solution="5", needs=(0,)),
    ),
    solution="8",
    every=True,
    conclusion="3 5 8",
)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (
            ALTERNATIVES,
            ["1 2 <and> 4 <eos>", "3 <giveup> <eos>", "5 <answer> 6 7 <eos>", "<answer> 6 7 <eos>"],
        ),
        (PARTS, ["1 2 4 <eos>", "<try> 1 2 3 <try> 4 5 3 5 8 <answer> 8 <eos>", "<answer> 8 <eos>"]),
        (SearchTree(children=(), solution="9"), ["<answer> 9 <eos>"]),
        (SearchTree(children=(), solution=None), ["<giveup> <eos>"]),
        (
            SearchTree(children=ALTERNATIVES.children[:1], solution=None),
            ["1 2 <eos>", "3 <giveup> <eos>", "<giveup> <eos>"],
        ),
    ],
)
def test_demonstrations(tree: SearchTree, said: list[str]) -> None:
    for join in ("aggregate", "vote"):
        episode = demonstrate(
            build(NAME, join=join), Prompt("7"), tree, id="0", problem_id="p", max_length=200
        )
        assert episode is not None and not episode.violations
        expected = said if join == "aggregate" or len(said) == 1 else said[:-1]
        assert [text(call.output) for call in episode.calls] == expected
        answer = episode.answer_ids()
        assert (None if answer is None else text(answer)) == tree.solution
