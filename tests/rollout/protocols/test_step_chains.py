"""Searches whose chains decide step by step: `latts` and `drafted_steps`. Worked examples: tests/golden."""

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from protocol_lab import PROMPT, LetterEncoder, build, drive, ids, scripted
from pydantic import ValidationError

from data.episodes.topology import total_tokens
from data.episodes.trajectory import Limit, Ref, StopReason, ThreadOutcome, ViolationKind
from data.tasks.search_tree import SearchNode, SearchTree
from rollout.commands import Generate, Score
from rollout.demonstrate import demonstrate
from rollout.protocols import PROTOCOLS
from rollout.protocols.latts import Latts, LattsParams
from rollout.protocols.shared.base import Stops

CHAINS = ("latts", "drafted_steps")
OPENING = ids("<solo> 1 2 3 <think>")


def small(name: str, **options: Any) -> Any:
    return build(name, **{"width": 2, "step_tokens": 3, "chain_tokens": 8} | options)


def growing(generate: Generate) -> tuple[int, ...]:
    """Never ends a text."""
    return ids("1 1 1 1 1 1 1 1 1 1")


def liked(question: Score) -> tuple[tuple[float, ...], ...]:
    return ((0.9,),) * len(question.texts)


def by_words(scores: dict[str, float]) -> Callable[[Score], tuple[tuple[float, ...], ...]]:
    """Scores of steps by what they say."""
    return lambda question: tuple((scores[str(text.output[0])],) for text in question.texts)


@pytest.mark.parametrize("name", CHAINS)
def test_a_text_that_never_ends_is_cut_off_at_its_length(name: str) -> None:
    patient = {} if name == "drafted_steps" else {"tries": 1, "backups": 0, "restarts": 0}
    episode = drive(small(name, **patient), growing, judge=liked)
    assert episode.outcome is ThreadOutcome.RETURNED and episode.answer is None
    assert {thread.outcome for thread in episode.threads[1:]} == {ThreadOutcome.TRUNCATED}
    assert {thread.limit for thread in episode.threads[1:]} == {Limit.CALL}
    longest = max(episode.calls, key=lambda call: len(call.context))
    assert len(episode.context_ids(longest)) - len(OPENING) + len(longest.output) == 8
    refs = [span for span in longest.context if isinstance(span, Ref)]
    assert all(len(span) == len(episode.calls[span.call].output) for span in refs) and refs


@pytest.mark.parametrize("name", CHAINS)
def test_an_answer_may_be_spread_over_steps_and_is_read_as_one(name: str) -> None:
    text = ids("1 <answer> 4 9 5 <eos>")

    def say(generate: Generate) -> tuple[int, ...]:
        return text[len(generate.prompt) - len(OPENING) :]

    episode = drive(small(name), say, judge=liked)
    assert episode.answer_ids() == ids("4 9 5") and not episode.violations
    assert episode.answer is not None and len(episode.answer) == 2, "a part of each of two calls"


@pytest.mark.parametrize("name", CHAINS)
def test_every_chain_asks_about_its_own_step_before_the_next(name: str) -> None:
    seen: list[tuple[int, ...]] = []

    def judge(question: Score) -> tuple[tuple[float, ...], ...]:
        seen.append(question.path)
        assert len(question.texts) == 1 and question.path != (), "a chain asks for itself"
        return liked(question)

    episode = drive(small(name, chain_tokens=20), scripted_texts("1 1 1", "<answer> 5 <eos>"), judge=judge)
    asked = [call for scoring in episode.scorings for call in scoring.calls]
    assert len(asked) == len(set(asked)) == len(seen) == 4 and set(seen) == {(0,), (1,)}
    assert episode.answer_ids() == (5,)


def scripted_texts(*lines: str) -> Callable[[Generate], tuple[int, ...]]:
    """The same text in every chain: call k says line k."""
    return lambda generate: ids(lines[generate.number])


@pytest.mark.parametrize("name", CHAINS)
def test_a_budget_ends_a_chain_with_its_name(name: str) -> None:
    episode = drive(small(name, budgets={"total_tokens": 6}), growing, judge=liked)
    assert total_tokens(episode) == 6
    assert {thread.limit for thread in episode.threads[1:]} == {Limit.TOTAL_TOKENS}
    narrow = drive(small(name, width=3, budgets={"width": 2}), growing, judge=liked)
    assert narrow.threads[3].limit is Limit.WIDTH and not narrow.threads[3].success


@pytest.mark.parametrize("name", CHAINS)
def test_a_scorer_that_fails_ends_the_chain_that_asked_and_a_retry_begins_anew(name: str) -> None:
    lines = {((key,), 0): f"<answer> {key + 5} <eos>" for key in range(3)}

    def judge(question: Score) -> tuple[tuple[float, ...], ...] | str:
        return "it is dead" if question.path == (0,) else liked(question)

    told = drive(small(name), scripted(lines), judge=judge)
    assert told.threads[1].outcome is ThreadOutcome.FAILED and told.answer_ids() == (6,)
    again = drive(small(name, on_failure="retry", pick="best"), scripted(lines), judge=judge)
    assert [thread.outcome.value for thread in again.threads[1:]] == ["failed", "returned", "returned"]


def test_a_malformed_step_is_noted_where_it_stands_and_tried_again() -> None:
    said = {((0,), 0): "1 1 1", ((0,), 1): "2 2 <eos>", ((0,), 2): "<answer> 6 <eos>"}
    episode = drive(small("latts", width=1), scripted(said), judge=liked)
    # Backed up: what was accepted is dropped too, since nothing was unsure about an end without an answer.
    assert episode.context_ids(episode.calls[2]) == OPENING
    (violation,) = episode.violations
    assert violation.kind is ViolationKind.MALFORMED_ANSWER
    assert (violation.call, violation.position) == (1, 2)
    assert episode.answer_ids() == (6,)


def test_a_chain_without_patience_left_takes_its_best_try_or_stops() -> None:
    said = {((0,), number): f"{number + 1} 1 1" for number in range(3)} | {((0,), 3): "<answer> 6 <eos>"}
    scores = by_words({"1": 0.4, "2": 0.6, "3": 0.5, str(ids("<answer>")[0]): 0.9})
    given = {"width": 1, "tries": 3, "backups": 0, "restarts": 0}
    episode = drive(small("latts", **given), scripted(said), judge=scores)
    # Mean scores 0.4, 0.5, 0.5: ceil(12 x 0.24) and 12 x 0.25, three tries.
    assert episode.context_ids(episode.calls[3]) == (*OPENING, *ids("2 1 1"))
    assert episode.answer_ids() == (6,)
    stopped = drive(small("latts", spent="stop", **given), scripted(said), judge=scores)
    assert len(stopped.calls) == 3 and stopped.answer is None
    assert stopped.threads[1].outcome is ThreadOutcome.RETURNED and not stopped.threads[1].success


def test_the_answers_of_chains_vote_by_the_scores_of_their_own_texts() -> None:
    lines = {
        ((0,), 0): "1 1 1", ((0,), 1): "<answer> 5 <eos>",
        ((1,), 0): "3 1 1", ((1,), 1): "<answer> 6 <eos>",
    }  # fmt: skip

    def scores(question: Score) -> tuple[tuple[float, ...], ...]:
        first, second = ((0.8, 0.75), (0.9, 0.72))[question.path[0]]
        return ((second if question.number else first,),)

    for aggregate, pick, winner in (("last", "vote", 5), ("min", "best", 5), ("mean", "best", 6)):
        protocol = small("latts", chain_tokens=20, aggregate=aggregate, pick=pick)
        assert drive(protocol, scripted(lines), judge=scores).answer_ids() == (winner,)


def test_chains_that_do_not_wait_for_each_other_may_be_cut_short_by_the_first() -> None:
    lines = {
        ((0,), 0): "1 1 1", ((0,), 1): "<answer> 5 <eos>",
        ((1,), 0): "<answer> 6 <eos>",
    }  # fmt: skip
    turns = iter([1, 1, 0])  # chain 1 comes back and is scored before chain 0
    episode = drive(
        small("latts", wait="success"), scripted(lines), judge=liked,
        pick=lambda n: min(next(turns, 0), n - 1),
    )  # fmt: skip
    assert [thread.outcome.value for thread in episode.threads[1:]] == ["cancelled", "returned"]
    assert episode.answer_ids() == (6,)


def test_drafts_and_rewritten_steps_are_told_apart_in_the_record_and_by_what_is_trained() -> None:
    lines = {((0,), 0): "1 1 1", ((0,), 1): "2 2 2", ((0,), 2): "<answer> 5 <eos>"}
    scores = by_words({"1": 0.2, "2": 0.1, str(ids("<answer>")[0]): 0.9})
    options: dict[str, Any] = {"width": 1, "chain_tokens": 20}
    for train, trained in (("all", [3, 3, 3]), ("draft", [3, 0, 3]), ("target", [0, 3, 0])):
        episode = drive(small("drafted_steps", train=train, **options), scripted(lines), judge=scores)
        assert [call.role for call in episode.calls] == ["draft", "chain", "draft"]
        assert [call.num_trained for call in episode.calls] == trained
        assert total_tokens(episode) == 9, "the rejected draft is paid for"


def test_the_draft_has_an_instruction_of_its_own_behind_the_same_steps() -> None:
    protocol = PROTOCOLS["drafted_steps"](
        PROTOCOLS["drafted_steps"].params_class.model_validate({"name": "drafted_steps", "width": 1}),
        LetterEncoder(),
    )
    lines = iter(["one ", "two ", "<answer>7\0"])
    scores = iter([0.1, 0.2, 0.9])
    episode = drive(
        protocol, lambda generate: tuple(map(ord, next(lines))), judge=lambda question: ((next(scores),),),
        stopped=lambda generate, output: False,
    )  # fmt: skip
    read = ["".join(map(chr, episode.context_ids(call))) for call in episode.calls]
    assert "as short as it can be" in read[0] and "as short as it can be" not in read[1]
    assert "as short as it can be" in read[2] and read[2].endswith("two "), "the draft is dropped"


def test_steps_end_at_text_where_the_recipe_says() -> None:
    params = LattsParams(name="latts", step_end="\n\n", steps=2)
    opening = Latts(params, LetterEncoder()).open(PROMPT)
    assert [ask.stops for ask in opening.children] == [Stops(ids=(0,), texts=("\n\n",))]
    lines = iter(["ab\n\n", "<answer>7\0"])
    episode = drive(
        Latts(params, LetterEncoder()), lambda generate: tuple(map(ord, next(lines))), judge=liked,
        stopped=lambda generate, output: output[-2:] == (10, 10),
    )  # fmt: skip
    assert [call.stop for call in episode.calls] == [StopReason.STOP] * 2
    assert "".join(map(chr, episode.answer_ids() or ())) == "7"


def test_conformal_acceptance_needs_enough_scores_to_reject_anything() -> None:
    with pytest.raises(ValidationError, match=r"0 calibration scores can reject nothing at alpha: 0\.1.*9"):
        build("drafted_steps", accept="conformal")
    with pytest.raises(ValidationError, match=r"16 calibration scores .* it needs 19"):
        build("drafted_steps", accept="conformal", alpha=0.05, calibrate=30)
    build("drafted_steps", accept="conformal", alpha=0.05, calibrate=30, budgets={"width": 30})
    build("drafted_steps", accept="conformal", calibration=tuple(n / 10 for n in range(9)))
    with pytest.raises(ValidationError, match="are for accept: conformal"):
        build("drafted_steps", calibrate=3)
    for name in CHAINS:
        assert PROTOCOLS[name].params_class.model_validate({"name": name}).takes_scorer


@pytest.mark.medium
def test_good_drafts_of_whole_episodes_are_rejected_at_most_at_alpha() -> None:
    # Draft and calibrating steps have scores of one distribution. At 15 + 4 of them and alpha = 0.1 a draft
    # is rejected in 2 of 20 places. One draft an episode counts, so episodes are independent: 600 of them
    # have the deviation sqrt(0.09 / 600) = 0.0122, of which four are allowed.
    rng, episodes, rejected = random.Random(2), 600, 0
    for _ in range(episodes):
        protocol = build(
            "drafted_steps", accept="conformal", calibration=tuple(rng.random() ** 2 for _ in range(15)),
            calibrate=4, width=1, step_tokens=2, chain_tokens=4,
        )  # fmt: skip
        episode = drive(
            protocol, growing,
            judge=lambda question: tuple((rng.random() ** 2,) for _ in question.texts),
        )  # fmt: skip
        drafted, *rest = [call for call in episode.calls if call.thread == 5]
        assert drafted.role == "draft" and rest
        rejected += not any(isinstance(span, Ref) for span in rest[0].context)
    assert rejected / episodes == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / episodes))


TREE = SearchTree(
    children=(
        SearchNode(move="3 4", message="3 4", trace="7 7 7", solution="7"),
        SearchNode(move="9 1", message="9 1", trace="8 8 8", solution="8"),
    ),
    solution="7",
    every=False,
    conclusion="",
)


@pytest.mark.parametrize(
    "options",
    [
        {"name": "latts"},
        {"name": "drafted_steps"},
        {"name": "drafted_steps", "accept": "conformal", "alpha": 0.5, "calibrate": 2},
    ],
    ids=["latts", "threshold", "conformal"],
)
def test_a_demonstration_shows_attempts_in_pieces_by_the_search_s_own_rule(options: dict[str, Any]) -> None:
    protocol = build(**options, width=2, step_tokens=3, chain_tokens=40)
    made = demonstrate(protocol, PROMPT, TREE, id="0", problem_id="p", max_length=400)
    assert made is not None and made.answer_ids() == ids("7")
    ends = [call for call in made.calls if call.stop is StopReason.STOP]
    assert len(ends) == 2 and all(len(call.output) <= 3 for call in made.calls)
    texts = {made.context_ids(call)[len(OPENING) :] + call.output for call in ends}
    whole = build("self_consistency", chains=2)
    shown = demonstrate(whole, PROMPT, TREE, id="0", problem_id="p", max_length=400)
    assert shown is not None and texts == {call.output for call in shown.calls}
