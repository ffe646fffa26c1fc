"""Published flat texts: split into the calls that the protocol would have made, and put together again."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_lab import WordEncoder, build, drive, scripted

from data.errors import TrajectoryError
from data.tasks.search_tree import SearchNode, SearchTree
from data.text.prompt import Prompt
from rollout.demonstrate import demonstrate
from rollout.published_text import flatten, unflatten
from rollout.transcript import read_transcript

VARIANTS: list[dict[str, Any]] = [
    {"name": "parallel_paths"},
    {"name": "parallel_paths", "width": "model", "paths": 3},
    {"name": "outlined_threads"},
    {"name": "outlined_threads", "budgets": {"width": 2}},
    {"name": "outlined_threads", "dialect": "multiverse"},
    {"name": "outlined_threads", "dialect": "multiverse", "budgets": {"depth": 3}},
    {"name": "outlined_threads", "dialect": "npr"},
    {"name": "outlined_threads", "dialect": "npr", "budgets": {"depth": 2}},
    {"name": "outlined_threads", "dialect": "parason", "trials": "all"},
]

numbers = st.integers(1, 48).map(str)


def nodes(depth: int) -> st.SearchStrategy[SearchNode]:
    children = st.just(()) if depth == 0 else st.lists(nodes(depth - 1), max_size=3).map(tuple)
    return st.builds(
        lambda move, trace, own, below: SearchNode(
            move=move,
            message=move,
            trace=trace,
            children=below,
            solution=next((child.solution for child in below if child.solution is not None), own),
        ),
        numbers, numbers, st.none() | numbers, children,
    )  # fmt: skip


@st.composite
def trees(draw: st.DrawFn) -> SearchTree:
    """Alternatives three levels deep, or parts of which later ones may need earlier ones."""
    if draw(st.booleans()):
        children = tuple(draw(st.lists(nodes(2), max_size=6)))
        solution = next((child.solution for child in children if child.solution is not None), None)
        return SearchTree(children=children, solution=solution)
    parts = []
    for index in range(draw(st.integers(1, 5))):
        needs = tuple(sorted(draw(st.sets(st.integers(0, index - 1), max_size=2)))) if index else ()
        parts.append(SearchNode(move="1", message="1", trace="2", solution="3", needs=needs))
    return SearchTree(children=tuple(parts), solution="9", every=True, conclusion="3 6 9")


@pytest.mark.medium
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: " ".join(map(str, variant.values())))
@settings(max_examples=30, deadline=None)
@given(tree=trees())
def test_a_demonstration_survives_the_way_through_flat_text(
    variant: dict[str, Any], tree: SearchTree
) -> None:
    protocol = build(**variant)
    demo = demonstrate(protocol, Prompt("7 8"), tree, id="0", problem_id="p", max_length=4000)
    assert demo is not None
    text = flatten(demo, "7 8", protocol, WordEncoder())
    again = read_transcript(unflatten(text, protocol, prompt="7 8"), protocol, WordEncoder())
    assert [(c.context, c.output, c.after, c.role, c.stop) for c in again.calls] == [
        (c.context, c.output, c.after, c.role, c.stop) for c in demo.calls
    ]
    assert again.threads == demo.threads and again.answer == demo.answer and not again.violations


WEAVER = """<think> 1
<Parallel>
<Outlines>
<Outline>1: 2</Outline>
<Outline>2: 3</Outline>
</Outlines>
<Thread>
1: 4
</Thread><Thread>
2: 5
</Thread>
</Parallel>
6 </think> <answer> 7"""


def test_what_was_left_out_in_front_and_behind_is_put_back() -> None:
    """A chat template may have written the opening tag, and the end of the sequence is not published."""
    protocol = build("outlined_threads")
    whole = unflatten(WEAVER, protocol, prompt="9")
    assert unflatten(WEAVER.removeprefix("<think>"), protocol, prompt="9") == whole
    assert unflatten(f"{WEAVER} <eos>", protocol, prompt="9") == whole
    assert [(call.path, call.says.split()[-1]) for call in whole.calls] == [
        ((), "</Outlines>"),
        ((0,), "</Thread>"),
        ((1,), "</Thread>"),
        ((), "<eos>"),
    ]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("<Thread>\n1: 4", "<Thread>\n2: 4"), r"line 8, column 1: thread 1: should come next; found '2: 4"),
        (("1: 4", "4"), r"line 8, column 1: thread 1: should come next; found '4"),
        (
            ("</Thread><Thread>\n2: 5", ""),
            r"line 11, column 1: <Thread> should come next; found '</Parallel>",
        ),
        (
            ("5\n</Thread>\n", "5\n"),
            r"line 12, column 22: thread \[1\] is not closed by </Thread>; the text ends",
        ),
        (("5\n</Thread>\n", "5\n</Thread><Thread>\n3: 6</Thread>\n"), r"a thread more than the 2 outlines"),
        (("1: 2</Outline>\n<Outline>2: 3", "2"), r"no outline before this has a number"),
    ],
)
def test_a_text_that_does_not_fit_is_refused_with_its_place(change: tuple[str, str], complaint: str) -> None:
    assert change[0] in WEAVER
    with pytest.raises(TrajectoryError, match=complaint):
        unflatten(WEAVER.replace(*change), build("outlined_threads"))


@pytest.mark.parametrize(
    ("text", "params", "complaint"),
    [
        ("<Parallel> <Path> 1 </Path> </Parallel>", {}, r"1 paths before this, where `paths` is 2"),
        ("<Parallel> <Path> 1 </Path> <Path> 2", {}, r"a path is not closed by </Path>"),
        (
            "<Parallel> <Path> 1 </Path> <Path> 2 </Path> <Summary>",
            {},
            r"column 46: </Parallel> should come next",
        ),
        (
            "<Parallel> <Path> 1 </Path> <Path> 2 </Path> </Parallel> 3",
            {},
            r"<Summary> should come next; found '3'",
        ),
        (
            "<Parallel> <Path> 1 </Path> <Path> 2 </Path> </Parallel> <Summary> 3",
            {},
            r"a summary is not closed by </Summary>; the text ends",
        ),
        ("<Parallel> 2 <Path> 1", {"width": "model"}, r"a path is not closed"),
    ],
)
def test_paths_that_do_not_fit_are_refused_with_their_place(
    text: str, params: dict[str, str], complaint: str
) -> None:
    with pytest.raises(TrajectoryError, match=complaint):
        unflatten(text, build("parallel_paths", **params))


def test_a_conclusion_that_the_engine_would_have_opened_must_be_there() -> None:
    text = "<Parallel> <Goal> <Outline> 1: 2 </Outline> </Goal> <Path> 1: 3 </Path> </Parallel>"
    with pytest.raises(TrajectoryError, match=r"<Conclusion> should come next; found '</Parallel>'"):
        unflatten(text, build("outlined_threads", dialect="multiverse"))


def test_blocks_that_nest_deeper_than_the_budget_are_refused() -> None:
    text = "<Parallel> <Goal> <Outline> 1: </Outline> </Goal> <Path> 1: " * 2
    with pytest.raises(TrajectoryError, match=r"nest deeper than 1"):
        unflatten(text, build("outlined_threads", dialect="multiverse"))


def test_a_slip_inside_a_call_is_the_protocols_to_judge() -> None:
    protocol = build("outlined_threads")
    transcript = unflatten(WEAVER.replace("</Parallel>\n", ""), protocol, prompt="9")
    episode = read_transcript(transcript, protocol, WordEncoder())
    assert [violation.kind.value for violation in episode.violations] == ["unclosed_tag"]


def test_protocols_without_a_flat_text_are_refused() -> None:
    with pytest.raises(TrajectoryError, match=r"sequential has no published flat format"):
        unflatten("1", build("sequential"))


def test_a_flat_text_begins_behind_the_prompt() -> None:
    lines = {((), 0): "</think> <giveup> <eos>"}
    protocol = build("outlined_threads")
    episode = drive(protocol, scripted(lines))
    assert flatten(episode, "1 2 3", protocol, WordEncoder()) == "<think> </think> <giveup>"
    with pytest.raises(TrajectoryError, match=r"does not begin with '4'"):
        flatten(episode, "4", protocol, WordEncoder())
    silent = drive(protocol, scripted(lines), max_length=2)
    assert flatten(silent, "1 2 3", protocol, WordEncoder()) == ""
