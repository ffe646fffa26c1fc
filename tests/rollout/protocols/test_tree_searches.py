"""Searches that a scorer guides: how texts grow, end and are shown. Worked examples are in tests/golden."""

from typing import Any

import pytest
from protocol_lab import PROMPT, LetterEncoder, build, drive, ids, scripted
from pydantic import ValidationError

from data.episodes.trajectory import Limit, Ref, StopReason, ThreadOutcome
from data.errors import ConfigError
from data.tasks.search_tree import SearchNode, SearchTree
from rollout.commands import Generate, Score
from rollout.demonstrate import demonstrate
from rollout.protocols import PROTOCOLS
from rollout.protocols.beam import Beam, BeamParams
from rollout.protocols.shared.base import Stops

SEARCHES = ("beam", "dvts", "rebase", "ets", "early_rejection", "thought_tournament", "best_first")
SMALL: dict[str, Any] = {"width": 2, "chain_tokens": 8}


def small(name: str, **options: Any) -> Any:
    step = {"tau": 3} if name == "early_rejection" else {"step_tokens": 3}
    return build(name, **SMALL, **step, **options)


def growing(generate: Generate) -> tuple[int, ...]:
    """Never ends a text."""
    return ids("1 1 1 1 1 1 1 1 1 1")


@pytest.mark.parametrize("name", SEARCHES)
def test_a_text_that_never_ends_is_cut_off_at_its_length(name: str) -> None:
    episode = drive(small(name), growing)
    assert episode.outcome is ThreadOutcome.RETURNED and episode.answer is None
    longest = max(episode.calls, key=lambda call: len(call.context))
    own = len(episode.context_ids(longest)) - len(ids("<solo> 1 2 3 <think>"))
    assert own + len(longest.output) == 8
    assert episode.threads[longest.thread].limit is Limit.CALL
    refs = [span for span in longest.context if isinstance(span, Ref)]
    assert all(len(span) == len(episode.calls[span.call].output) for span in refs) and refs


@pytest.mark.parametrize("name", SEARCHES)
def test_an_answer_may_be_spread_over_steps_and_is_read_as_one(name: str) -> None:
    text = ids("1 <answer> 4 9 5 <eos>")

    def say(generate: Generate) -> tuple[int, ...]:
        return text[len(generate.prompt) - len(ids("<solo> 1 2 3 <think>")) :]

    episode = drive(small(name), say)
    assert episode.answer_ids() == ids("4 9 5")
    assert episode.answer is not None and len(episode.answer) == 2, "a part of each of two calls"
    assert not episode.violations


@pytest.mark.parametrize("name", SEARCHES)
def test_without_a_root_budget_the_search_ends_with_what_it_has(name: str) -> None:
    # Two first steps of three tokens, then nothing is left.
    episode = drive(small(name, budgets={"total_tokens": 6}), growing)
    assert len(episode.calls) == 2 and episode.outcome is ThreadOutcome.RETURNED and episode.answer is None
    assert {thread.limit for thread in episode.threads[3:]} == {Limit.TOTAL_TOKENS}


@pytest.mark.parametrize("name", SEARCHES)
def test_texts_beyond_the_width_that_may_run_do_not(name: str) -> None:
    params = {"width": 4} | ({"tau": 3} if name == "early_rejection" else {"step_tokens": 3})
    protocol = build(name, **params, chain_tokens=8, budgets={"width": 2})
    episode = drive(protocol, growing)
    assert {call.thread for call in episode.calls[:2]} == {1, 2}
    assert [thread.limit for thread in episode.threads[3:5]] == [Limit.WIDTH] * 2


@pytest.mark.parametrize("name", SEARCHES)
def test_the_scorer_sees_each_text_once(name: str) -> None:
    seen: list[int] = []

    def judge(question: Score) -> tuple[tuple[float, ...], ...]:
        seen.append(len(question.texts))
        assert question.path == (), "the root asks"
        return tuple((len(text.output) / 10,) for text in question.texts)

    episode = drive(small(name), growing, judge=judge)
    asked = [call for scoring in episode.scorings for call in scoring.calls]
    assert len(asked) == len(set(asked)) == sum(seen)
    assert {episode.threads[episode.calls[call].thread].outcome for call in asked} == {ThreadOutcome.RETURNED}


def test_a_violation_stands_in_the_call_that_made_it() -> None:
    lines = {
        ((0,), 0): "1 1 1", ((1,), 0): "2 <giveup> <eos>",
        ((2,), 0): "2 2 <eos>", ((3,), 0): "<answer> 6 <eos>",
    }  # fmt: skip
    episode = drive(build("beam", width=2, step_tokens=3, chain_tokens=9), scripted(lines))
    (violation,) = episode.violations
    assert (episode.calls[violation.call].output, violation.position) == (ids("2 2 <eos>"), 2)
    assert episode.answer_ids() == (6,)


def test_a_step_ends_where_the_recipe_says() -> None:
    lines = {
        ((0,), 0): "1 1 <try> 9", ((1,), 0): "2 <try> 9 9",
        ((2,), 0): "3 <answer> 5 <eos>", ((3,), 0): "3 <answer> 6 <eos>",
    }  # fmt: skip
    protocol = build("beam", width=2, step_end="<try>", step_tokens=9, chain_tokens=20)
    episode = drive(protocol, scripted(lines), judge=lambda q: tuple((t.output[-2] / 10,) for t in q.texts))
    assert [call.output for call in episode.calls[:2]] == [ids("1 1 <try>"), ids("2 <try>")]
    assert episode.context_ids(episode.calls[2]) == ids("<solo> 1 2 3 <think> 2 <try>")
    with pytest.raises(ConfigError, match=r"step_end '1 2': is 2 words"):
        build("beam", step_end="1 2")


def test_ordinary_text_ends_a_step_as_text() -> None:
    params = BeamParams(name="beam", step_end="\n\n", steps=2)
    protocol = Beam(params, LetterEncoder())
    opening = protocol.open(PROMPT)
    assert [ask.stops for ask in opening.children] == [Stops(ids=(0,), texts=("\n\n",))] * 4
    lines = iter(["ab\n\n", "cd\n\n", *["<answer>7\0"] * 4])

    def say(generate: Generate) -> tuple[int, ...]:
        return tuple(map(ord, next(lines)))

    protocol = Beam(BeamParams(name="beam", step_end="\n\n", steps=2, width=2), LetterEncoder())
    episode = drive(protocol, say, stopped=lambda g, out: out[-2:] == (10, 10))
    assert [call.stop for call in episode.calls] == [StopReason.STOP] * 4
    assert "".join(map(chr, episode.answer_ids() or ())) == "7"


def test_a_search_waits_for_all_and_asks_a_scorer() -> None:
    for name in SEARCHES:
        assert PROTOCOLS[name].params_class.model_validate({"name": name}).takes_scorer
        with pytest.raises(ValidationError, match="it needs wait: all"):
            build(name, wait="first")


TREE = SearchTree(
    children=(
        SearchNode(move="3 4", message="3 4", trace="7 7 7", solution="7"),
        SearchNode(move="9 1", message="9 1", trace="8 8 8", solution="8"),
    ),
    solution="7",
    every=False,
    conclusion="",
)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_demonstration_shows_attempts_in_pieces_by_the_search_s_own_rule(name: str) -> None:
    step = {"tau": 3, "keep": 0.5} if name == "early_rejection" else {"step_tokens": 3}
    protocol = build(name, width=2, chain_tokens=40, **step)
    made = demonstrate(protocol, PROMPT, TREE, id="0", problem_id="p", max_length=400)
    assert made is not None and made.answer_ids() in (ids("7"), ids("8"))
    assert all(len(call.output) <= 3 for call in made.calls[:2])
    # Whole texts read as attempts: a first step, pieces that continue it, and the end.
    ends = [call for call in made.calls if call.stop is StopReason.STOP]
    texts = {made.context_ids(call)[5:] + call.output for call in ends}
    whole = build("self_consistency", chains=2)
    shown = demonstrate(whole, PROMPT, TREE, id="0", problem_id="p", max_length=400)
    assert shown is not None and texts <= {call.output for call in shown.calls}
    assert all(score == (1.0,) for scoring in made.scorings for score in scoring.scores)
