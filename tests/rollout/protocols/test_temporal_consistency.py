"""temporal_consistency: what a judge sees again, when the rounds end, and whose verdict counts."""

import pytest
from protocol_lab import PROMPT, LetterEncoder, build, drive, ids, scripted
from pydantic import ValidationError

from data.episodes.trajectory import Episode, Ref, ThreadOutcome
from data.tasks.search_tree import SearchNode, SearchTree
from rollout.commands import Generate
from rollout.demonstrate import demonstrate
from rollout.protocols.shared.base import Results
from rollout.protocols.temporal_consistency import TemporalConsistency, TemporalConsistencyParams

NAME = "temporal_consistency"


def said(lines: list[str]) -> Episode:
    """An episode of one judge that says a line a round."""
    spoken = {((key,), 0): line for key, line in enumerate(lines)}
    return drive(build(NAME, chains=1, agree=2, rounds=5), scripted(spoken))


def test_a_judge_repeats_until_it_agrees_with_itself_or_the_rounds_are_over() -> None:
    assert len(said(["<answer> 5 <eos>"] * 5).calls) == 2
    flipping = [f"<answer> {5 + number % 2} <eos>" for number in range(5)]
    episode = said(flipping)
    assert len(episode.calls) == 5 and episode.answer_ids() == (5,), "the last one's"
    assert len(said([*flipping[:3], "<answer> 5 <eos>"]).calls) == 4


def test_what_it_sees_of_its_own_is_a_reference_to_what_it_wrote() -> None:
    episode = said(["1 2 <answer> 5 <eos>", "3 <answer> 5 <eos>"])
    spans = [span for span in episode.calls[1].context if isinstance(span, Ref)]
    assert spans == [Ref(call=0, start=0, stop=4)] and episode.calls[1].role == "check"
    assert episode.threads[0].success


def test_a_judge_without_a_verdict_begins_anew_or_goes_on_from_its_last_one() -> None:
    episode = said(["<giveup> <eos>", "<answer> 5 <eos>", "9 9 <eos>", "<answer> 5 <eos>", "<giveup> <eos>"])
    assert [call.role for call in episode.calls] == ["chain", "chain", "check", "check", "check"]
    assert ids("<results> <answer> 5 <end>") == episode.context_ids(episode.calls[3])[4:8]
    # The last round in which anybody said anything decides.
    assert episode.answer_ids() == (5,) and [v.call for v in episode.violations] == [2]
    silent = said(["<giveup> <eos>"] * 5)
    assert silent.answer is None and silent.outcome is ThreadOutcome.RETURNED and len(silent.calls) == 5


def test_no_round_follows_where_no_judge_could_run() -> None:
    def say(generate: Generate) -> tuple[int, ...]:
        return ids("<answer> 5 <eos>")

    episode = drive(build(NAME, chains=2, budgets={"total_tokens": 6}), say)
    # A call may take all that is left, so the other judge has nothing; in the third round both have nothing.
    assert [call.thread for call in episode.calls] == [1, 3] and len(episode.threads) == 7
    assert episode.answer_ids() == (5,)


def test_judges_never_see_each_other() -> None:
    lines = {((key,), 0): f"{key} <answer> {key % 3} <eos>" for key in range(1, 9)}
    lines[(0,), 0] = "9 <answer> 7 <eos>"
    episode = drive(build(NAME, chains=3, rounds=3), scripted(lines))
    for call in episode.calls[3:]:
        (ref,) = [span for span in call.context if isinstance(span, Ref)]
        assert (episode.calls[ref.call].thread - call.thread) % 3 == 0


def test_room_is_needed_for_what_is_seen_again() -> None:
    protocol = build(NAME, chain_tokens=50)
    told = len(ids("<solo> 1 2 3 <results> <end> <think>"))
    assert protocol.needed_length(PROMPT) == told + 50 + 50
    assert build(NAME, chain_tokens=50, rounds=3).frame("check", PROMPT, Results(items=())) != ()
    with pytest.raises(ValidationError, match="agree: 4 is never reached in 3 rounds"):
        build(NAME, agree=4, rounds=3)


def test_a_judge_is_told_in_words_to_check_what_it_wrote() -> None:
    params = TemporalConsistencyParams(name="temporal_consistency", chains=1, agree=2)
    lines = iter(["Hm. <answer>7\0", "Yes. <answer>7\0"])
    episode = drive(
        TemporalConsistency(params, LetterEncoder()), lambda generate: tuple(map(ord, next(lines)))
    )
    first, second = ("".join(map(chr, episode.context_ids(call))) for call in episode.calls)
    assert "Think step by step." in first and "Hm." not in first
    assert "You have said to this:\n\nAnswer 1:\nHm. <answer>7\n\nThat may be wrong." in second
    assert second.startswith("1 2 3\n\n") and "".join(map(chr, episode.answer_ids() or ())) == "7"


def test_a_demonstration_repeats_the_answer_that_it_sees() -> None:
    tree = SearchTree(
        children=(
            SearchNode(move="3 4", message="3 4", trace="7", solution="7"),
            SearchNode(move="9 1", message="9 1", trace="8", solution="8"),
        ),
        solution="7",
        every=False,
        conclusion="",
    )
    made = demonstrate(build(NAME, chains=2, agree=2), PROMPT, tree, id="0", problem_id="p", max_length=400)
    assert made is not None and len(made.calls) == 4 and made.answer_ids() == ids("7")
    assert [call.output for call in made.calls[2:]] == [ids("<answer> 7 <eos>"), ids("<answer> 8 <eos>")]
