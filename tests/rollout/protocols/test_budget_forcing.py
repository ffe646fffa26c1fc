"""budget_forcing: the cap, the wait, answers without thinking, and answers that are begun for a chain."""

import pytest
from protocol_lab import LetterEncoder, build, drive, ids, scripted
from pydantic import ValidationError

from data.episodes.topology import critical_tokens, total_tokens
from data.episodes.trajectory import Episode, ThreadOutcome, ViolationKind
from rollout.protocols.budget_forcing import BudgetForcing, BudgetForcingParams

NAME = "budget_forcing"
SEEN = "<solo> 1 2 3 <think>"


def contexts(episode: Episode) -> list[tuple[int, ...]]:
    return [episode.context_ids(call) for call in episode.calls]


def test_a_chain_at_its_cap_completes_an_answer_that_is_begun_for_it() -> None:
    lines = {((0,), 0): "1 2 3 4 5 6 7", ((0,), 1): "9 8 <eos>"}
    episode = drive(build(NAME, chain_tokens=4), scripted(lines))
    assert contexts(episode) == [ids(SEEN), ids(f"{SEEN} 1 2 3 4 <answer>")]
    assert episode.answer_ids() == (9, 8) and episode.threads[0].success
    assert [call.role for call in episode.calls] == ["chain", "answer"]
    # What was forced is in a context and no output, so it has no loss; what was sampled has.
    assert [call.num_trained for call in episode.calls] == [4, 3]
    assert total_tokens(episode) == critical_tokens(episode) == 7


def test_an_ending_is_dropped_and_the_chain_reads_wait() -> None:
    lines = {
        ((0,), 0): "1 1 <answer> 5 <eos>",
        ((0,), 1): "2 <giveup> <eos>",
        ((0,), 2): "3 <answer> 6 <eos>",
    }
    episode = drive(build(NAME, extend=2, wait_text="<think> 7"), scripted(lines))
    assert contexts(episode) == [
        ids(SEEN), ids(f"{SEEN} 1 1 <think> 7"), ids(f"{SEEN} 1 1 <think> 7 2 <think> 7"),
    ]  # fmt: skip
    assert episode.answer_ids() == (6,) and not episode.violations


def test_waits_share_the_cap_and_an_answer_at_the_cap_is_forced() -> None:
    lines = {((0,), 0): "1 <answer> 5 <eos>", ((0,), 1): "2 2 2 2", ((0,), 2): "5 <eos>"}
    episode = drive(build(NAME, chain_tokens=6, extend=3, wait_text="8"), scripted(lines))
    assert [len(call.output) for call in episode.calls] == [4, 2, 2]
    assert contexts(episode)[2] == ids(f"{SEEN} 1 8 2 2 <answer>")
    assert episode.answer_ids() == (5,)


def test_without_thinking_chains_answer_at_once_and_vote() -> None:
    lines = {((0,), 0): "6 <eos>", ((1,), 0): "5 <eos>", ((2,), 0): "5 <eos>"}
    episode = drive(build(NAME, chains=3, chain_tokens=0), scripted(lines))
    assert contexts(episode) == [ids(f"{SEEN} <answer>")] * 3
    assert episode.answer_ids() == (5,) and critical_tokens(episode) == 2


def test_who_ends_without_an_answer_has_it_forced_and_may_give_up() -> None:
    forced = drive(build(NAME), scripted({((0,), 0): "1 2 <eos>", ((0,), 1): "5 <eos>"}))
    assert contexts(forced)[1] == ids(f"{SEEN} 1 2 <answer>") and forced.answer_ids() == (5,)
    given_up = drive(build(NAME), scripted({((0,), 0): "1 <giveup> <eos>"}))
    assert given_up.answer is None and not given_up.violations


@pytest.mark.parametrize(
    ("line", "outcome"), [("5 5 5 5", ThreadOutcome.TRUNCATED), ("<eos>", ThreadOutcome.MALFORMED)]
)
def test_a_forced_answer_may_fail(line: str, outcome: ThreadOutcome) -> None:
    episode = drive(build(NAME, chain_tokens=0, answer_tokens=3), scripted({((0,), 0): line}))
    assert episode.threads[1].outcome is outcome and episode.answer is None
    if outcome is ThreadOutcome.MALFORMED:
        assert [violation.kind for violation in episode.violations] == [ViolationKind.MALFORMED_ANSWER]


@pytest.mark.parametrize(
    ("answer", "said", "opening", "found"),
    [
        ({"kind": "boxed"}, "42}. Done", "\n\nFinal answer: \\boxed{", "42"),
        ({"kind": "last_number"}, " 42.", "\n\nThe final answer is", "42"),
        ({"kind": "after", "markers": ("ANSWER:",)}, " 4 2\nNext", "\n\nANSWER:", "4 2"),
        ({"kind": "choice"}, " B", "\n\nAnswer:", "B"),
        ({"kind": "code"}, "x = 1\n```\n", "\n\n```\n", "x = 1"),
        ({"kind": "boxed", "scope": "after_think"}, "7}", "\n</think>\n\nFinal answer: \\boxed{", "7"),
        ({"kind": "tags"}, " 42 </answer> x", "<answer>", " 42 "),
    ],
)
def test_every_answer_format_has_a_beginning(
    answer: dict[str, object], said: str, opening: str, found: str
) -> None:
    params = BudgetForcingParams.model_validate(
        {"name": NAME, "chain_tokens": 0, "answer": answer, "framing": {"kind": "plain"}}
    )
    protocol = BudgetForcing(params, LetterEncoder())
    text = tuple(map(ord, said))
    episode = drive(protocol, lambda _: (*text, 0))
    context = "".join(map(chr, episode.context_ids(episode.calls[0])))
    assert context.endswith(opening)
    ids_found = episode.answer_ids()
    assert ids_found is not None and "".join(map(chr, ids_found)).strip() == found.strip()


def test_a_chain_needs_one_token_for_an_answer() -> None:
    with pytest.raises(ValidationError, match="answer_tokens"):
        build(NAME, answer_tokens=0)
