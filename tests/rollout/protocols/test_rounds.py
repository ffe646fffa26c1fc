"""rounds: what a draft sees, how a message is made, when it stops, what is trained, what is demonstrated."""

import math
from typing import Any

import pytest
from chain_lab import Place, play
from protocol_lab import build, drive, ids, scripted, text
from pydantic import ValidationError

from data.episodes.topology import critical_tokens, depth, total_tokens, width
from data.episodes.trajectory import EdgeKind, Episode, Forced, Limit, Ref, ThreadOutcome, ViolationKind
from data.tasks.search_tree import SearchNode, SearchTree
from data.text.prompt import Prompt
from rollout.demonstrate import demonstrate

NAME = "rounds"
PLAIN = "<solo> 1 2 3 <think>"


def told(message: str) -> str:
    return f"<solo> 1 2 3 <results> {message} <end> <think>"


def contexts(episode: Episode) -> list[str]:
    return [text(episode.context_ids(call)) for call in episode.calls]


def lines(*drafts: str, **root: str) -> dict[Place, str]:
    """What drafts 0, 1, ... say, and the root in its call `r0`, `r1`, ..."""
    return {((key,), 0): line for key, line in enumerate(drafts)} | {
        ((), int(name[1:])): line for name, line in root.items()
    }


def test_one_round_and_a_synthesis() -> None:
    script = lines("4 <answer> 5 6 <eos>", "<giveup> <eos>", "<answer> 7 <eos>", r0="8 <answer> 5 6 <eos>")
    episode = drive(build(NAME, widths=(3,)), scripted(script))
    seen = contexts(episode)
    assert seen[:3] == [PLAIN] * 3
    assert seen[3] in (told("5 6 <and> 7"), told("7 <and> 5 6"))
    # The message refers to what the drafts sampled; only the separator is forced.
    message = episode.calls[3].context[1:-1]
    assert {span for span in message if isinstance(span, Ref)} == {
        Ref(call=0, start=2, stop=4),
        Ref(call=2, start=1, stop=2),
    }
    assert [span for span in message if isinstance(span, Forced)] == [Forced(ids=ids("<and>"))]
    assert [call.role for call in episode.calls] == ["draft"] * 3 + ["synthesis"]
    assert [(edge.kind, edge.call) for edge in episode.calls[3].after] == [
        (EdgeKind.JOIN, n) for n in range(3)
    ]
    assert total_tokens(episode) == 5 + 2 + 3 + 5 and critical_tokens(episode) == 5 + 5
    assert (width(episode), depth(episode)) == (3, 1)
    assert episode.answer_ids() == (5, 6) and not episode.violations


def test_a_round_sees_only_the_message_of_the_one_before_and_waits_for_it() -> None:
    script = lines("<answer> 5 <eos>", "4 <answer> 6 <eos>", "<answer> 7 <eos>", r0="<answer> 8 <eos>")
    episode = drive(build(NAME, widths=(1, 1, 1)), scripted(script))
    assert contexts(episode) == [PLAIN, told("5"), told("6"), told("7")]
    # A draft of the second round comes after the first, though the root said nothing in between.
    assert [(edge.kind, edge.call) for edge in episode.calls[1].after] == [(EdgeKind.JOIN, 0)]
    assert critical_tokens(episode) == total_tokens(episode) == 3 + 4 + 3 + 3
    assert episode.threads[2].opened_by is None


def test_without_a_message_the_context_is_the_plain_one() -> None:
    script = lines("<giveup> <eos>", "5 <eos>", "<giveup> <eos>", r0="<answer> 8 <eos>")
    episode = drive(build(NAME, widths=(2, 1)), scripted(script))
    assert contexts(episode) == [PLAIN] * 4
    [violation] = episode.violations
    assert (violation.kind, violation.call, violation.position) == (ViolationKind.MALFORMED_ANSWER, 1, 1)
    # No answer fits into a message of one id either.
    script = lines("<answer> 5 6 <eos>", r0="<answer> 8 <eos>")
    assert contexts(drive(build(NAME, widths=(1,), kappa=1), scripted(script))) == [PLAIN] * 2


@pytest.mark.parametrize(("final", "outcome"), [("5 <eos>", "malformed"), ("5 5 5 5", "truncated")])
def test_the_last_call_ends_as_any_other(final: str, outcome: str) -> None:
    episode = drive(build(NAME, widths=(1,), final_tokens=3), scripted(lines("<answer> 5 <eos>", r0=final)))
    assert episode.outcome.value == outcome and episode.answer is None
    assert episode.threads[0].limit is (Limit.CALL if outcome == "truncated" else None)


def test_failed_drafts_are_told_in_the_words_of_the_recipe() -> None:
    script = lines("4 4 4 4 4", "<giveup> <eos>", r0="<answer> 8 <eos>")
    protocol = build(NAME, widths=(2,), draft_tokens=4, notices={"truncated": "9 9"})
    assert contexts(drive(protocol, scripted(script)))[2] == told("9 9")


def test_the_ends_of_drafts_in_equal_shares() -> None:
    script = lines("1 2 3 <answer> 5 <eos>", "4 4 4 4 4 4 4 4", r0="<answer> 8 <eos>")
    protocol = build(NAME, widths=(2,), compaction="last_tokens", kappa=7, draft_tokens=6)
    # Seven less the separator, halved; the end of the sequence is no part of a draft.
    assert contexts(drive(protocol, scripted(script)))[2] == told("3 <answer> 5 <and> 4 4 4")


def test_the_answers_of_the_most_confident_drafts() -> None:
    said: dict[Place, tuple[str, list[float]]] = {
        ((0,), 0): ("<answer> 5 <eos>", [-0.5]),
        ((1,), 0): ("<answer> 6 <eos>", [-0.1]),
        ((2,), 0): ("<giveup> <eos>", [-0.01]),
        ((3,), 0): ("<answer> 7 <eos>", [-0.2]),
        ((), 0): ("<answer> 8 <eos>", [-0.1]),
    }
    episode = play(build(NAME, compaction="top", top=2), said)
    assert contexts(episode)[4] == told("6 <and> 7")


def test_a_call_distils_all_drafts_and_its_limit_is_the_messages() -> None:
    script = lines(
        "4 <answer> 5 <eos>", "9 <giveup> <eos>", "<answer> 6 <eos>",
        r0="7 7 7 7 7", r1="<eos>", r2="<answer> 8 <eos>",
    )  # fmt: skip
    episode = drive(build(NAME, widths=(2, 1), compaction="distil", kappa=3), scripted(script))
    by_role = [(call.role, seen) for call, seen in zip(episode.calls, contexts(episode), strict=True)]
    assert by_role == [
        ("draft", PLAIN),
        ("draft", PLAIN),
        ("distil", "<distil> 1 2 3 <results> 4 <answer> 5 <and> 9 <giveup> <end> <think>"),
        ("draft", told("7 7 7")),
        ("distil", "<distil> 1 2 3 <results> <answer> 6 <end> <think>"),
        ("synthesis", PLAIN),
    ]
    assert [len(call.output) for call in episode.calls] == [4, 3, 3, 3, 1, 3]
    assert critical_tokens(episode) == 4 + 3 + 3 + 1 + 3


@pytest.mark.parametrize(("compaction", "trained"), [("answers", {"synthesis"}), ("distil", {"synthesis"})])
def test_only_the_synthesis_is_trained_where_the_recipe_says_so(compaction: str, trained: set[str]) -> None:
    script = lines("<answer> 5 <eos>", "<answer> 5 <eos>", r0="<answer> 5 <eos>", r1="<answer> 5 <eos>")
    for choice in ("all", "synthesis"):
        episode = drive(build(NAME, widths=(2,), compaction=compaction, trained=choice), scripted(script))
        roles = {call.role for call in episode.calls}
        assert {call.role for call in episode.calls if call.num_trained} == (
            roles if choice == "all" else trained
        )


AGREE = ("<answer> 5 <eos>", "4 <answer> 5 <eos>")
DIFFER = ("<answer> 5 <eos>", "4 <answer> 6 <eos>")
SILENT = ("<giveup> <eos>", "<giveup> <eos>")


@pytest.mark.parametrize(
    ("options", "rounds", "ran", "answer"),
    [
        ({"stop_entropy": 0.0}, [DIFFER, AGREE, DIFFER], 2, (5,)),
        ({"stop_entropy": 0.0}, [DIFFER, DIFFER, DIFFER], 3, (5,)),
        ({"stop_entropy": 0.7}, [DIFFER, AGREE, AGREE], 1, (5,)),  # ln 2 = 0.693
        ({"stop_entropy": 0.69}, [DIFFER, AGREE, AGREE], 2, (5,)),
        ({"stop_entropy": 9.0}, [SILENT, SILENT, AGREE], 3, (5,)),  # nobody answered: no reason to stop
        ({"stop_entropy": 9.0}, [SILENT, SILENT, SILENT], 3, None),
        ({"secretary": True}, [AGREE, DIFFER, DIFFER], 3, (5,)),  # the first is watched; then worse
        ({"secretary": True}, [DIFFER, DIFFER, AGREE], 2, (5,)),  # as good as the first
        ({}, [AGREE, AGREE, AGREE], 3, (5,)),
    ],
)
def test_when_rounds_stop(
    options: dict[str, Any], rounds: list[tuple[str, str]], ran: int, answer: tuple[int, ...] | None
) -> None:
    protocol = build(NAME, widths=(2, 2, 2), final="vote", **options)
    episode = drive(protocol, scripted(lines(*(line for drafts in rounds for line in drafts))))
    assert len(episode.calls) == 2 * ran
    assert episode.answer_ids() == answer and episode.outcome is ThreadOutcome.RETURNED


def test_a_stop_saves_the_last_call_and_one_draft_stops_nothing() -> None:
    script = lines("<answer> 5 <eos>", *AGREE, r0="<answer> 8 <eos>")
    episode = drive(build(NAME, widths=(1, 2, 2), stop_entropy=math.log(2)), scripted(script))
    assert [call.role for call in episode.calls] == ["draft"] * 3 and episode.answer_ids() == (5,)


def test_cancelled_drafts_are_not_counted_as_dissent() -> None:
    script = lines("<answer> 5 <eos>", "<answer> 5 <eos>", "1 2 3 <answer> 6 <eos>", r0="<answer> 8 <eos>")
    protocol = build(NAME, widths=(3,), wait="success", wait_for=2, stop_entropy=0.0)
    episode = drive(protocol, scripted(script))
    assert [thread.outcome.value for thread in episode.threads] == ["returned"] * 3 + ["cancelled"]
    assert episode.answer_ids() == (5,) and len(episode.calls) == 3


def test_a_round_is_as_wide_as_the_budget_lets_it() -> None:
    script = lines(*["<answer> 5 <eos>"] * 4, r0="4 <eos>", r1="4 <eos>", r2="<answer> 8 <eos>")
    protocol = build(NAME, widths=(3, 3), compaction="distil", budgets={"width": 2})
    episode = drive(protocol, scripted(script))
    assert width(episode) == 4 and not episode.violations


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ({"secretary": True, "stop_entropy": 0.1}, "without a threshold"),
        ({"trained": "synthesis", "final": "vote"}, "final: call"),
        ({"widths": ()}, "at least 1"),
        ({"widths": (2, 0)}, "greater than or equal to 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(params: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        build(NAME, **params)


SOLVED = SearchTree(
    children=(
        SearchNode(move="1", message="1", trace="2"),
        SearchNode(move="3", message="3", trace="4", solution="5 6"),
    ),
    solution="5 6",
)
UNSOLVED = SearchTree(children=(SearchNode(move="1", message="1", trace="2"),) * 2, solution=None)
PARTS = SearchTree(
    children=(
        SearchNode(move="1", message="1", trace="2", solution="2"),
        SearchNode(move="3", message="3", trace="4", solution="4", needs=(0,)),
    ),
    solution="6",
    every=True,
    conclusion="2 4 6",
)
FIRST, SECOND = "<try> 1 2 <try> 3 4 <answer> 5 6 <eos>", "<try> 3 4 <answer> 5 6 <eos>"
SHORT, NOTHING = "<answer> 5 6 <eos>", "<try> 1 2 <try> 1 2 <giveup> <eos>"


@pytest.mark.parametrize(
    ("params", "tree", "said"),
    [
        # Who sees an answer repeats it.
        ({"widths": (2, 2)}, SOLVED, [FIRST, SECOND, SHORT, SHORT, SHORT]),
        # No answer fits: every draft searches, in an order of its own, and so does the last call.
        ({"widths": (1, 1), "kappa": 1}, SOLVED, [FIRST, SECOND, FIRST]),
        # The end of a draft shows an answer when it is long enough.
        ({"widths": (1,), "compaction": "last_tokens", "kappa": 2}, SOLVED, [FIRST, SHORT]),
        ({"widths": (1,), "compaction": "last_tokens", "kappa": 1}, SOLVED, [FIRST, SECOND]),
        ({"widths": (1,), "compaction": "distil"}, SOLVED, [FIRST, SHORT, SHORT]),
        ({"widths": (1,)}, UNSOLVED, [NOTHING, NOTHING]),
        ({"widths": (1,), "compaction": "distil"}, UNSOLVED, [NOTHING, "<giveup> <eos>", NOTHING]),
        ({"widths": (2,)}, PARTS, ["<try> 1 2 <try> 3 4 2 4 6 <answer> 6 <eos>"] * 2 + ["<answer> 6 <eos>"]),
        ({"widths": (2, 2), "stop_entropy": 0.0}, SOLVED, [FIRST, SECOND]),
        # Drafts 1 and 2 are cancelled before they say anything.
        ({"widths": (3,), "wait": "success"}, SOLVED, [FIRST, SHORT, "", ""]),
    ],
)
def test_demonstrations(params: dict[str, Any], tree: SearchTree, said: list[str]) -> None:
    episode = demonstrate(build(NAME, **params), Prompt("7"), tree, id="0", problem_id="p", max_length=200)
    assert episode is not None
    assert [text(call.output) for call in episode.calls] == said
    answer = episode.answer_ids()
    assert (None if answer is None else text(answer)) == tree.solution
