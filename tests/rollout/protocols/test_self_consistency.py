"""self_consistency: votes, early stops, chains in several calls, probes."""

import random
from typing import Any

import pytest
from chain_lab import play
from protocol_lab import WordEncoder, build, drive, ids, scripted, text
from pydantic import ValidationError

from data.episodes.topology import critical_tokens, depth, total_tokens, width
from data.episodes.trajectory import Episode, Limit, Ref, ThreadOutcome, ViolationKind
from data.tasks.search_tree import SearchNode, SearchTree
from data.text.prompt import Prompt
from rollout.commands import Generate
from rollout.demonstrate import demonstrate
from rollout.protocols.sequential import Sequential, SequentialParams

SEEN = "<solo> 1 2 3 <think>"
NAME = "self_consistency"


def outcomes(episode: Episode) -> list[str]:
    return [thread.outcome.value for thread in episode.threads[1:]]


def chains(*lines: str) -> dict[tuple[tuple[int, ...], int], str]:
    return {((key,), 0): line for key, line in enumerate(lines)}


def test_chains_see_what_a_sequential_thread_sees_and_the_majority_answers() -> None:
    episode = drive(
        build(NAME, chains=3),
        scripted(chains("<answer> 6 <eos>", "1 <answer> 5 <eos>", "2 2 <answer> 5 <eos>")),
    )
    solo = Sequential(SequentialParams(name="sequential"), WordEncoder()).open(Prompt("1 2 3")).ask
    assert [episode.context_ids(call) for call in episode.calls] == [ids(SEEN)] * 3
    assert all(call.context == solo.context for call in episode.calls)
    assert all(call.after == () and call.num_trained == len(call.output) for call in episode.calls)
    # The answer is a reference to what chain 1 sampled; the root said nothing.
    assert episode.answer == (Ref(call=1, start=2, stop=3),)
    assert total_tokens(episode) == 3 + 4 + 5 and critical_tokens(episode) == 5
    assert (width(episode), depth(episode)) == (3, 1)
    assert episode.threads[0].success and not episode.violations


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        (("<answer> 5 <eos>", "<answer> 6 <eos>"), "5"),  # a tie: the earliest
        (("<giveup> <eos>", "<answer> 6 <eos>"), "6"),
        (("<giveup> <eos>", "<giveup> <eos>"), None),
        (("7 <eos>", "<answer> 6 <eos>"), "6"),  # who broke the rules has no vote
    ],
)
def test_who_gives_no_answer_has_no_vote(lines: tuple[str, ...], answer: str | None) -> None:
    episode = drive(build(NAME, chains=2), scripted(chains(*lines)))
    assert episode.outcome is ThreadOutcome.RETURNED
    assert episode.answer_ids() == (None if answer is None else ids(answer))
    assert episode.threads[0].success == (answer is not None)


@pytest.mark.parametrize("line", ["5 <eos>", "<answer> <eos>", "<giveup> 5 <eos>"])
def test_a_malformed_chain_is_a_typed_violation_at_its_end(line: str) -> None:
    episode = drive(build(NAME, chains=2), scripted(chains("<answer> 6 <eos>", line)))
    assert outcomes(episode) == ["returned", "malformed"]
    [violation] = episode.violations
    assert (violation.kind, violation.call) == (ViolationKind.MALFORMED_ANSWER, 1)
    assert violation.position == len(ids(line)) - 1


def test_confidence_counts_the_mean_probability_of_a_chain_or_of_its_answer() -> None:
    # Chain 0: e^-0.1 a token. Chains 1 and 2: e^-2 a token over all, e^0 = 1 on their answer.
    doubtful = ("1 <answer> 5 <eos>", [-4.0, -4.0, 0.0, 0.0])
    lines = {
        ((0,), 0): ("<answer> 6 <eos>", [-0.1]),
        ((1,), 0): doubtful,
        ((2,), 0): doubtful,
    }
    answers = {
        options: play(build(NAME, chains=3, **dict(options)), lines).answer_ids()
        for options in (
            (),
            (("vote", "confidence"),),
            (("vote", "confidence"), ("confidence", "answer")),
        )
    }
    assert list(answers.values()) == [(5,), (6,), (5,)]


def test_an_early_stop_cancels_who_cannot_change_the_outcome() -> None:
    lines = chains(*["1 2 <answer> 5 <eos>"] * 3, "1 2 3 <answer> 6 <eos>", "1 2 3 4 5 6 <answer> 7 <eos>")
    episode = drive(build(NAME, chains=5, stop_early=True), scripted(lines))
    # After three of five agree nothing can change; the others had spoken half of their words.
    assert outcomes(episode) == ["returned"] * 3 + ["cancelled"] * 2
    assert episode.answer_ids() == (5,)
    assert total_tokens(episode) == 3 * 5 + 3 + 4
    everyone = drive(build(NAME, chains=5), scripted(lines))
    assert everyone.answer_ids() == (5,) and outcomes(everyone) == ["returned"] * 5


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("vote", ["majority", "confidence"])
def test_an_early_stop_never_changes_the_answer(vote: str, seed: int) -> None:
    rng = random.Random(seed)
    lines = chains(*(f"{'1 ' * rng.randint(0, 4)}{rng.choice(ENDS)} <eos>" for _ in range(7)))
    late = drive(build(NAME, chains=7, vote=vote), scripted(lines))
    early = drive(build(NAME, chains=7, vote=vote, stop_early=True), scripted(lines), pick=rng.randrange)
    assert early.answer_ids() == late.answer_ids()
    assert total_tokens(early) <= total_tokens(late)


ENDS = ["<answer> 5", "<answer> 5", "<answer> 5", "<answer> 6", "<giveup>"]


def test_a_chain_in_several_calls_goes_on_where_it_stopped() -> None:
    # Calls of 3: the answer's tag and its text fall into different calls.
    lines = {
        ((0,), 0): "1 2 <answer>",
        ((0,), 1): "5 6 7",
        ((0,), 2): "8 <eos>",
        ((1,), 0): "<giveup> <eos>",
    }
    episode = drive(build(NAME, chains=2, probe_tokens=3), scripted(lines))
    assert [text(episode.context_ids(call)) for call in episode.calls if call.thread == 1] == [
        SEEN,
        f"{SEEN} 1 2 <answer>",
        f"{SEEN} 1 2 <answer> 5 6 7",
    ]
    mine = [call.index for call in episode.calls if call.thread == 1]
    assert episode.answer == (Ref(call=mine[1], start=0, stop=3), Ref(call=mine[2], start=0, stop=1))
    assert episode.answer_ids() == (5, 6, 7, 8)
    assert critical_tokens(episode) == 3 + 3 + 2


def test_a_chain_in_several_calls_has_one_limit_and_its_mistakes_have_their_place() -> None:
    protocol = build(NAME, chains=2, chain_tokens=7, probe_tokens=3)
    lines = {((0,), number): "1 1 1" for number in range(3)}
    lines |= {((1,), 0): "1 1 1", ((1,), 1): "1 <eos>"}
    episode = drive(protocol, scripted(lines))
    assert outcomes(episode) == ["truncated", "malformed"]
    assert episode.threads[1].limit is Limit.CALL
    assert [len(call.output) for call in episode.calls if call.thread == 1] == [3, 3, 1]
    [violation] = episode.violations
    assert (episode.calls[violation.call].thread, violation.position) == (2, 1)


def test_a_chain_that_says_nothing_ends() -> None:
    episode = drive(build(NAME, chains=1, probe_tokens=3), lambda _: ())
    assert outcomes(episode) == ["truncated"] and len(episode.calls) == 1


def probed(generate: Generate) -> tuple[int, ...]:
    """Three chains in calls of 3: two answer 5 for the time being, one 6, and all think on."""
    if generate.number:
        return ids("1 1 1")
    return ids("<answer> 6 <think>" if generate.path == (2,) else "<answer> 5 <think>")


@pytest.mark.parametrize("seed", range(8))
def test_whoever_keeps_disagreeing_is_given_up_and_all_stop_once_the_winner_stays(seed: int) -> None:
    protocol = build(NAME, chains=3, probe_tokens=3, patience=2, stable=3)
    episode = drive(protocol, probed, pick=random.Random(seed).randrange)
    assert episode.answer_ids() == (5,) and outcomes(episode) == ["cancelled"] * 3
    finished = [sum(call.stop == "length" for call in episode.calls if call.thread == n) for n in (1, 2, 3)]
    # Nobody was stopped before the probe that decided it, whatever order the calls came back in.
    assert finished[0] >= 3 and finished[1] >= 3 and finished[2] >= 2


def test_a_chain_that_is_given_up_is_stopped_before_its_next_call() -> None:
    protocol = build(NAME, chains=3, chain_tokens=9, probe_tokens=3, patience=2)
    episode = drive(protocol, probed)
    assert [sum(call.thread == n for call in episode.calls) for n in (1, 2, 3)] == [3, 3, 2]
    assert outcomes(episode) == ["truncated", "truncated", "cancelled"]
    # Both that are left were cut off; what they had answered for the time being counts.
    assert episode.answer_ids() == (5,)


def test_a_chain_that_gives_up_at_last_takes_its_earlier_answer_back() -> None:
    lines = {
        ((0,), 0): "<answer> 5 <think>",
        ((0,), 1): "<giveup> <eos>",
        ((1,), 0): "<answer> 6 <think>",
        ((1,), 1): "7 <answer> 6",
        ((1,), 2): "<eos>",
    }
    episode = drive(build(NAME, chains=2, probe_tokens=3, stable=9), scripted(lines))
    assert episode.answer_ids() == (6,) and outcomes(episode) == ["returned", "returned"]


def test_a_chain_that_was_begun_anew_can_be_given_up_too() -> None:
    lines = {
        **{((key,), 0): "<answer> 5 <think>" for key in (0, 1)},
        **{((key,), 1): "1 1 1" for key in (0, 1)},
        **{((key,), 2): "<giveup> <eos>" for key in (0, 1)},
        ((2,), 0): "7 <eos>",
        ((3,), 0): "<answer> 6 <think>",
        ((3,), 1): "1 1 1",
    }
    protocol = build(NAME, chains=3, probe_tokens=3, patience=2, on_failure="retry")
    episode = drive(protocol, scripted(lines))
    # Chain 2 broke the rules; the one begun in its place disagreed twice and never made a third call.
    assert outcomes(episode) == ["returned", "returned", "malformed", "cancelled"]
    assert episode.answer is None


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ({"patience": 3}, "set probe_tokens too"),
        ({"stable": 3}, "set probe_tokens too"),
        ({"probe_tokens": 3, "stable": 3, "vote": "confidence"}, "vote: majority"),
        ({"probe_tokens": 3, "stable": 3, "stop_early": True}, "stop_early: false"),
        ({"stop_early": True, "wait": "success"}, "wait: all"),
    ],
)
def test_options_that_contradict_each_other_are_refused(params: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        build(NAME, **params)


TREE = SearchTree(
    children=(
        SearchNode(move="1 2", message="1 2", trace="3"),
        SearchNode(move="4 5", message="4 5", trace="6", solution="7 8"),
    ),
    solution="7 8",
)


@pytest.mark.parametrize("probe_tokens", [None, 1, 3, 5, 40])
def test_each_chain_of_a_demonstration_begins_at_another_alternative(probe_tokens: int | None) -> None:
    protocol = build(NAME, chains=3, chain_tokens=12, probe_tokens=probe_tokens)
    episode = demonstrate(protocol, Prompt("1 2 3"), TREE, id="0", problem_id="p", max_length=100)
    assert episode is not None and episode.answer_ids() == (7, 8)
    said = [
        text([token for call in episode.calls if call.thread == thread for token in call.output])
        for thread in (1, 2, 3)
    ]
    first, second = "<try> 1 2 3 <try> 4 5 6 <answer> 7 8 <eos>", "<try> 4 5 6 <answer> 7 8 <eos>"
    assert said == [first, second, first]


@pytest.mark.parametrize("probe_tokens", [None, 1, 2, 5, 10])
def test_a_demonstration_that_does_not_fit_is_left_out_and_never_cut(probe_tokens: int | None) -> None:
    protocol = build(NAME, chains=3, chain_tokens=10, probe_tokens=probe_tokens)
    assert demonstrate(protocol, Prompt("1 2 3"), TREE, id="0", problem_id="p", max_length=100) is None


def test_a_forced_probe_is_paid_and_no_later_call_sees_it() -> None:
    lines = {
        ((0,), 0): "1 1",
        ((0,), 1): "5 <eos>",
        ((0,), 2): "2 2",
        ((0,), 3): "5 <eos>",
        ((0,), 4): "7 7",  # on its way when the last probe decides
        ((1,), 0): "3 3",
        ((1,), 1): "5 <eos>",
        ((1,), 2): "4 4",
        ((1,), 3): "5 <eos>",
    }
    protocol = build(NAME, chains=2, chain_tokens=20, probe_tokens=2, probe="forced", stable=2)
    episode = drive(protocol, scripted(lines))
    seen = [episode.context_ids(call) for call in episode.calls if call.thread == 1]
    assert seen == [
        ids(SEEN), ids(f"{SEEN} 1 1 <answer>"), ids(f"{SEEN} 1 1"), ids(f"{SEEN} 1 1 2 2 <answer>"),
        ids(f"{SEEN} 1 1 2 2"),
    ]  # fmt: skip
    probes = [call for call in episode.calls if call.role == "probe"]
    assert len(probes) == 4 and all(call.num_trained == 0 for call in probes)
    # Two probes with the same winner stop all; every token counts, on the chain's path too.
    assert episode.answer_ids() == (5,) and outcomes(episode) == ["cancelled", "cancelled"]
    assert total_tokens(episode) == 2 * 8 + 1 and critical_tokens(episode) == 9


def test_a_chain_that_ends_between_forced_probes_keeps_its_answer() -> None:
    lines = {
        ((0,), 0): "1 <answer> 6 <eos>",
        ((1,), 0): "3 3 3 3",
        ((1,), 1): "5 <eos>",
        ((1,), 2): "<answer> 6 <eos>",
    }
    protocol = build(NAME, chains=2, chain_tokens=20, probe_tokens=4, probe="forced", stable=5)
    episode = drive(protocol, scripted(lines))
    assert outcomes(episode) == ["returned", "returned"] and episode.answer_ids() == (6,)
    with pytest.raises(ValidationError, match="probe: forced is for patience or stable"):
        build(NAME, probe_tokens=4, probe="forced")
