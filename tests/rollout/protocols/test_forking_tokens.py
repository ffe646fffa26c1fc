"""forking_tokens: forced tags, sampled tags, and what of them is trained."""

from typing import Any

import pytest
from protocol_lab import IDS, LetterEncoder, build, drive, ids, scripted, text
from pydantic import ValidationError

from data.episodes.topology import critical_tokens, total_tokens, width
from data.episodes.trajectory import ThreadOutcome, ViolationKind
from data.tasks.search_tree import SearchNode, SearchTree
from data.text.prompt import Prompt
from rollout.demonstrate import demonstrate
from rollout.protocols.forking_tokens import ForkingTokens, ForkingTokensParams

NAME = "forking_tokens"
TAGS = ("<fork1>", "<fork2>", "<fork3>")


def test_each_tag_opens_a_chain_and_the_majority_answers() -> None:
    lines = {((key,), 0): f"1 <answer> {answer} <eos>" for key, answer in enumerate([5, 6, 6])}
    episode = drive(build(NAME, tags=TAGS), scripted(lines))
    assert [text(episode.context_ids(call)) for call in episode.calls] == [
        f"<solo> 1 2 3 {tag}" for tag in TAGS
    ]
    assert episode.answer_ids() == (6,)
    assert (total_tokens(episode), critical_tokens(episode), width(episode)) == (12, 4, 3)
    assert all(call.num_trained == len(call.output) for call in episode.calls)
    assert len(drive(build(NAME), lambda _: ids("<giveup> <eos>")).calls) == 6


@pytest.mark.parametrize(("trained", "tokens"), [("all", 4), ("first", 1)])
def test_a_chain_that_chooses_its_tag_is_the_same_text_but_the_tag_is_sampled(
    trained: str, tokens: int
) -> None:
    protocol = build(NAME, mode="sampled", chains=2, trained=trained)
    lines = {((0,), 0): "<fork2> <answer> 5 <eos>", ((1,), 0): "<fork4> <answer> 5 <eos>"}
    episode = drive(protocol, scripted(lines))
    assert all(episode.context_ids(call) == ids("<solo> 1 2 3") for call in episode.calls)
    assert [call.num_trained for call in episode.calls] == [tokens, tokens]
    assert episode.answer_ids() == (5,) and not episode.violations


@pytest.mark.parametrize(
    "line", ["1 <fork1> <answer> 5 <eos>", "<answer> 5 <eos>", "7 7 7 7 7 7 7 7 7", "<eos>"]
)
def test_a_chain_that_begins_without_a_tag_is_a_typed_violation(line: str) -> None:
    episode = drive(build(NAME, mode="sampled", chain_tokens=8), scripted({((0,), 0): line}))
    assert episode.threads[1].outcome is ThreadOutcome.MALFORMED and episode.answer is None
    [violation] = episode.violations
    assert (violation.kind, violation.position) == (ViolationKind.UNEXPECTED_TOKEN, 0)


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        ("<fork1> 7 7 7 7 7 7 7 7", "truncated"),
        ("<fork1> 7 <eos>", "malformed"),
        ("<fork1> <giveup> <eos>", "returned"),
    ],
)
def test_behind_its_tag_a_chain_ends_as_any_other(line: str, outcome: str) -> None:
    episode = drive(build(NAME, mode="sampled", chain_tokens=8), scripted({((0,), 0): line}))
    assert episode.threads[1].outcome.value == outcome and episode.answer is None


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ({"trained": "first"}, "mode: sampled"),
        ({"tags": ("<fork1>", "<fork1>")}, "differ from each other"),
        ({"tags": ("<fork1>", "<answer>")}, "differ from each other"),
        ({"tags": ("two words",)}, "match pattern"),
        ({"tags": ()}, "at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(params: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        build(NAME, **params)


def tree(first: str) -> SearchTree:
    return SearchTree(
        children=(
            SearchNode(move=first, message=first, trace="4"),
            SearchNode(move="5", message="5", trace="6", solution="7"),
        ),
        solution="7",
    )


def test_the_chain_with_tag_k_is_attempt_k_whether_the_tag_is_forced_or_chosen() -> None:
    forced = demonstrate(
        build(NAME, tags=TAGS), Prompt("1"), tree("3"), id="0", problem_id="p", max_length=50
    )
    assert forced is not None
    attempts = {text(forced.context_ids(call)).split()[-1]: text(call.output) for call in forced.calls}
    assert attempts["<fork1>"] == "<try> 3 4 <try> 5 6 <answer> 7 <eos>"
    assert attempts["<fork2>"] == "<try> 5 6 <answer> 7 <eos>"
    protocol = build(NAME, tags=TAGS, mode="sampled", chains=3)
    chosen = demonstrate(protocol, Prompt("1"), tree("3"), id="0", problem_id="p", max_length=50)
    assert chosen is not None
    said = dict(text(call.output).split(" ", 1) for call in chosen.calls)
    assert said == attempts


def test_a_single_chain_shows_every_tag_in_turn() -> None:
    protocol = build(NAME, mode="sampled", tags=TAGS)
    first = {protocol.teach(tree(str(number)), (0,), 0)[0] for number in range(1, 30)}
    assert first == {IDS[tag] for tag in TAGS}


def test_a_tag_that_is_ordinary_text_is_trained_whole() -> None:
    letters = LetterEncoder()
    params = ForkingTokensParams(name="forking_tokens", mode="sampled", trained="first")
    episode = drive(
        ForkingTokens(params, letters), lambda _: (*letters.encode("<fork2>x<answer>5"), letters.eos)
    )
    assert [call.num_trained for call in episode.calls] == [len("<fork2>")]
    assert episode.answer_ids() == letters.encode("5")
