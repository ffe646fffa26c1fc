"""first_finish: who is first, who is cancelled, and the vote among the first."""

import pytest
from protocol_lab import build, drive, ids, scripted
from pydantic import ValidationError

from data.episodes.topology import critical_tokens, total_tokens, width
from data.episodes.trajectory import Episode, ThreadOutcome

NAME = "first_finish"
LINES = {
    ((0,), 0): "1 1 1 1 1 <answer> 5 <eos>",
    ((1,), 0): "<giveup> <eos>",
    ((2,), 0): "1 <answer> 6 <eos>",
    ((3,), 0): "1 1 <answer> 5 <eos>",
}


def outcomes(episode: Episode) -> list[str]:
    return [thread.outcome.value for thread in episode.threads[1:]]


def test_the_first_chain_with_an_answer_wins_and_the_others_are_cancelled() -> None:
    # Calls come back last asked first: chain 3 answers before all others.
    episode = drive(build(NAME), scripted(LINES), pick=lambda n: n - 1)
    assert outcomes(episode) == ["cancelled", "cancelled", "cancelled", "returned"]
    assert episode.answer_ids() == (5,) and episode.threads[0].success
    # Of the others half had been said: 4, 1 and 2 words.
    assert total_tokens(episode) == 5 + 4 + 1 + 2 and critical_tokens(episode) == 5
    assert width(episode) == 4


def test_giving_up_wins_only_where_the_recipe_takes_any_end() -> None:
    order = [1, 1, 1, 0]  # chain 1 first, then 2
    for wait, answer, ends in (
        ("success", (6,), ["cancelled", "returned", "returned", "cancelled"]),
        ("first", None, ["cancelled", "returned", "cancelled", "cancelled"]),
    ):
        turns = iter(order)
        episode = drive(
            build(NAME, wait=wait), scripted(LINES), pick=lambda n, turns=turns: min(next(turns), n - 1)
        )
        assert episode.answer_ids() == answer and outcomes(episode) == ends
        assert episode.outcome is ThreadOutcome.RETURNED


def test_the_first_m_vote_and_of_equals_the_shortest_wins() -> None:
    # Chains 0, 2 and 3 answer 5, 6, 5.
    assert drive(build(NAME, wait_for=3), scripted(LINES)).answer_ids() == (5,)
    # Chains 0 and 2: one vote each, chain 2 is shorter.
    assert drive(build(NAME, wait_for=2), scripted(LINES)).answer_ids() == (6,)


def test_without_any_answer_there_is_none() -> None:
    lines = {((key,), 0): "<giveup> <eos>" for key in range(4)}
    episode = drive(build(NAME), scripted(lines))
    assert episode.answer is None and outcomes(episode) == ["returned"] * 4
    broken = {((key,), 0): "5 <eos>" for key in range(4)}
    assert outcomes(drive(build(NAME, wait="first"), scripted(broken))) == ["malformed"] * 4
    assert ids("5 <eos>") == (5, 49)


def test_it_does_not_wait_for_all() -> None:
    with pytest.raises(ValidationError, match="wait"):
        build(NAME, wait="all")
