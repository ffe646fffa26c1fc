"""What every protocol promises, whatever is sampled: one test for all of them, each with its options."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_lab import EOS, IDS, WordEncoder, babble, build, drive

from data.episodes.topology import critical_tokens, total_tokens
from data.episodes.trajectory import Episode, Forced, StopReason, ThreadOutcome
from data.episodes.wire import decode_episode, encode_episode
from data.tasks.countdown import Countdown, CountdownParams
from data.tasks.search_tree import SearchNode, SearchTree
from data.text.build_words import build_tokenizer
from data.text.codec import Codec
from data.text.prompt import Prompt
from rollout.commands import Generate, Score
from rollout.demonstrate import demonstrate
from rollout.protocols import PROTOCOLS, build_protocol, default_params, vocabulary
from rollout.transcript import dump_transcript, load_transcript, read_transcript, transcript_of

VARIANTS: list[dict[str, Any]] = [
    {"name": "sequential", "max_tokens": 900},
    {"name": "spawn_join"},
    {"name": "spawn_join", "condition": "spawns", "budgets": {"depth": 2}},
    {"name": "spawn_join", "condition": "tokens"},
    {"name": "spawn_join", "wait": "success"},
    {"name": "spawn_join", "wait": "first", "wait_for": 2, "on_failure": "retry"},
    {"name": "best_of_n", "scorer": "reward_model", "pick": "vote", "on_failure": "retry"},
    {"name": "best_of_n", "scorer": "judge", "judge": "knockout", "chains": 5, "comparisons": 2},
    {"name": "temporal_consistency", "chains": 2, "agree": 2, "rounds": 4},
    *(
        {"name": name}
        for name in PROTOCOLS
        if name not in {"sequential", "spawn_join", "temporal_consistency"}
    ),
]
"""Every protocol with its defaults, and options that change how it forks or joins."""

IN_PIECES: list[dict[str, Any]] = [
    *(
        {"name": name, "width": 3, "step_tokens": 7, "chain_tokens": 40, "on_failure": "retry"}
        for name in ("beam", "dvts", "rebase", "ets", "thought_tournament", "best_first")
    ),
    {"name": "early_rejection", "tau": 5, "rejections": 3, "keep": 0.5, "floor": 0.3},
    {"name": "latts", "width": 2, "step_tokens": 7, "chain_tokens": 30, "on_failure": "retry"},
    {
        "name": "drafted_steps",
        "accept": "conformal",
        "alpha": 0.5,
        "calibrate": 2,
        "width": 3,
        "step_tokens": 7,
        "chain_tokens": 30,
        "wait": "success",
    },
]
"""Searches whose texts end after many steps; the solver's are too long for them."""

TASK = Countdown(CountdownParams())
CASES = 700
"""Cases of each variant; times the variants this is the number that the test command promises."""


def label(variant: dict[str, Any]) -> str:
    return " ".join(f"{value}" for value in variant.values())


CASES_GIVEN = given(
    seed=st.integers(0, 2**32),
    bounds=st.fixed_dictionaries(
        {
            "width": st.integers(1, 6),
            "depth": st.integers(0, 3),
            "live_calls": st.sampled_from([1, 2, 64]),
            "total_tokens": st.integers(1, 500),
            "critical_tokens": st.integers(1, 300),
            "reserve_tokens": st.sampled_from([0, 20]),
            "inherit": st.sampled_from(["shared", "split"]),
        }
    ),
    max_length=st.integers(1, 400),
    failures=st.sampled_from([0.0, 0.2]),
)


@pytest.mark.parametrize("variant", VARIANTS + IN_PIECES, ids=label)
@settings(max_examples=100, deadline=None)
@CASES_GIVEN
def test_any_output_ends_within_every_budget_and_keeps_every_invariant(
    variant: dict[str, Any], seed: int, bounds: dict[str, Any], max_length: int, failures: float
) -> None:
    check_any_output(variant, seed, bounds, max_length, failures)


@pytest.mark.medium
@pytest.mark.parametrize("variant", VARIANTS + IN_PIECES, ids=label)
@settings(max_examples=CASES, deadline=None)
@CASES_GIVEN
def test_any_output_again_with_many_more_cases(
    variant: dict[str, Any], seed: int, bounds: dict[str, Any], max_length: int, failures: float
) -> None:
    check_any_output(variant, seed, bounds, max_length, failures)


def test_there_are_as_many_cases_as_promised() -> None:
    assert CASES * len(VARIANTS) >= 20_000


def check_any_output(
    variant: dict[str, Any], seed: int, bounds: dict[str, Any], max_length: int, failures: float
) -> None:
    """One episode of random words: it ends, within its bounds, with every sampled token in its record."""
    rng = random.Random(seed)
    protocol = build(**{**variant, "budgets": bounds})
    sampled: dict[str, int] = {"tokens": 0}
    say = babble(rng)

    def judge(question: Score) -> tuple[tuple[float, ...], ...] | str:
        if rng.random() < failures / 2:
            return "it is dead"
        return tuple(tuple(rng.random() for _ in range(rng.choice([1, 3]))) for _ in question.texts)

    def speak(generate: Generate) -> tuple[int, ...]:
        assert len(generate.prompt) + generate.max_tokens <= max_length
        return say(generate)

    episode = drive(
        protocol,
        speak,
        pick=rng.randrange,
        max_length=max_length,
        fail=lambda _: rng.random() < failures,
        on_result=lambda result: sampled.update(tokens=sampled["tokens"] + len(result.output)),
        judge=judge,
    )
    assert total_tokens(episode) == sampled["tokens"], "no sampled token is lost"
    assert total_tokens(episode) <= bounds["total_tokens"]
    assert critical_tokens(episode) <= bounds["critical_tokens"]
    ran = {call.thread for call in episode.calls}
    assert all(episode.threads[thread].depth <= bounds["depth"] for thread in ran)
    assert {call.role for call in episode.calls} <= set(protocol.roles)
    check_contexts(episode)
    assert decode_episode(encode_episode(episode)) == episode


def check_contexts(episode: Episode) -> None:
    """Spans name sampled tokens of earlier calls, and trained tokens are a beginning of the sampled ones."""
    for call in episode.calls:
        ids: list[int] = []
        for span in call.context:
            ids += (
                span.ids
                if isinstance(span, Forced)
                else episode.calls[span.call].output[span.start : span.stop]
            )
        assert tuple(ids) == episode.context_ids(call)
        assert 0 <= call.num_trained <= len(call.output)
        assert len(call.logprobs) in (0, len(call.output))


@pytest.fixture(scope="module")
def codec() -> Codec:
    spoken = [word for name in PROTOCOLS for part in vocabulary(default_params(name)) for word in part]
    return Codec(build_tokenizer(list(dict.fromkeys([*spoken, *TASK.words()])), numbers=99, digits=False))


def parts(needs: bool) -> SearchTree:
    """Three parts and their sum; with `needs` the third builds on the others."""
    third = (
        SearchNode(move="2 * 4", message="2 * 4", trace="8", solution="8")
        if not needs
        else SearchNode(move="2 *", message="2 *", trace="15 2 * 15 30", solution="30", needs=(0, 1))
    )
    return SearchTree(
        children=(
            SearchNode(move="3 + 4", message="3 + 4", trace="7", solution="7"),
            SearchNode(move="9 - 1", message="9 - 1", trace="8", solution="8"),
            third,
        ),
        solution="45" if needs else "23",
        every=True,
        conclusion="7 + 8 15 + 30 45" if needs else "7 + 8 15 + 8 23",
    )


def trees() -> list[tuple[Prompt, SearchTree]]:
    """(prompt, tree): searches for Countdown, and parts."""
    problems = TASK.problems("train", 60, 0)
    found = [
        (TASK.prompt(problem), TASK.search(problem, random.Random(number)))
        for number, problem in enumerate(problems)
    ]
    return [*found, (Prompt("3 + 4 9 - 1 2 * 4"), parts(False))]


@pytest.mark.parametrize("variant", VARIANTS, ids=label)
def test_demonstrations_are_well_formed_right_and_read_back_from_their_transcript(
    variant: dict[str, Any], codec: Codec
) -> None:
    params = PROTOCOLS[variant["name"]].params_class.model_validate(variant)
    protocol = build_protocol(params, codec)  # type: ignore[arg-type]
    shown = 0
    given = trees() + ([(Prompt("3 + 4 9 - 1 2 *"), parts(True))] if protocol.handles_needs else [])
    for number, (prompt, tree) in enumerate(given):
        made = demonstrate(protocol, prompt, tree, id=str(number), problem_id="p", max_length=4096)
        if made is None:
            continue
        shown += 1
        assert not made.violations
        assert made.outcome is ThreadOutcome.RETURNED
        answer = made.answer_ids()
        assert (None if answer is None else codec.decode(answer)) in possible_answers(tree)
        check_contexts(made)
        for call in made.calls:
            # A step of a search may be cut at its length: the next call goes on.
            pieces = (StopReason.LENGTH,) if params.takes_scorer else ()
            assert call.stop in (StopReason.STOP, StopReason.ABORT, *pieces) and not call.logprobs
        conditioned = getattr(params, "condition", "none") != "none"
        if not conditioned:  # a conditioned one is told what it itself used
            text = dump_transcript(transcript_of(made, prompt.text, codec))
            again = read_transcript(load_transcript(text), protocol, codec)
            assert [(c.context, c.output, c.after, c.role, c.stop) for c in again.calls] == [
                (c.context, c.output, c.after, c.role, c.stop) for c in made.calls
            ]
            assert again.threads == made.threads and again.answer == made.answer
    assert shown >= 0.7 * len(given)


def possible_answers(tree: SearchTree) -> set[str | None]:
    """The tree's, and for alternatives also any other child's: another attempt may find that one first."""
    others = set() if tree.every else {c.solution for c in tree.children if c.solution is not None}
    return {tree.solution, *others}


def test_the_end_of_the_sequence_is_no_word_of_any_protocol() -> None:
    assert EOS not in IDS.values()
    assert isinstance(WordEncoder().tag("<think>"), int)
