"""Votes and entropies by hand, and against every possible outcome."""

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.protocols.shared.voting import (
    Answer,
    mean_probability,
    secretary_stops,
    semantic_entropy,
    settled,
    vote,
)

A, B, C = (1, 2), (3,), (4, 5, 6)


@pytest.mark.parametrize(
    ("answers", "winner"),
    [
        ([A, B, B], 1),
        ([A, B, C], 0),  # a tie: the earliest
        ([B, A, A, B], 0),
        ([None, A, None], 1),
        ([None, None], None),
        ([], None),
    ],
)
def test_the_majority_wins_and_of_equals_the_earliest(
    answers: list[Answer | None], winner: int | None
) -> None:
    assert vote(answers) == winner


def test_a_confident_answer_outweighs_two_doubtful_ones() -> None:
    assert vote([A, B, B], [0.9, 0.4, 0.4]) == 0
    assert vote([A, B, B], [0.7, 0.4, 0.4]) == 1
    assert vote([None, B], [0.9, 0.1]) == 1


def test_the_mean_probability_is_per_token() -> None:
    # Two tokens of 1/2 and 1/8: geometric mean 1/4.
    assert mean_probability([math.log(0.5), math.log(0.125)]) == pytest.approx(0.25)
    assert mean_probability([]) == 1.0


@pytest.mark.parametrize(
    ("answers", "running", "known"),
    [
        ([A, A, None], [2], True),  # 2 against at most 1
        ([A, None, A], [1], True),
        ([A, B, None], [2], False),
        ([A, None, None], [1, 2], False),  # two others may agree
        ([A, A, None, None], [2, 3], True),  # 2 to 2 at most, and the tie is the first one's
        ([None, A, A, None], [0, 3], False),  # 2 to 2 with the other one standing first
        ([B, A, A, None], [3], False),  # B would be first with 2
        ([A, B, A, None], [3], True),  # 2 to 2, A first
        ([A, None, None], [2], True),  # index 1 has ended without an answer: 1 to 1 at most, A first
        ([None, None, A], [1], False),  # 1 to 1, and another answer would stand first
        ([None, None], [], True),
        ([None, None], [1], False),
    ],
)
def test_when_a_majority_is_settled(answers: list[Answer | None], running: list[int], known: bool) -> None:
    assert settled(answers, running) is known


@given(
    given_=st.lists(st.sampled_from([A, B, None]), min_size=1, max_size=6),
    running=st.sets(st.integers(0, 5), max_size=4),
)
def test_settled_means_that_no_completion_changes_the_winner(
    given_: list[Answer | None], running: set[int]
) -> None:
    running = {index for index in running if index < len(given_)}
    answers = [None if index in running else answer for index, answer in enumerate(given_)]
    winners = set()
    for completion in product([A, B, C, None], repeat=len(running)):
        completed = list(answers)
        for index, answer in zip(sorted(running), completion, strict=True):
            completed[index] = answer
        winner = vote(completed)
        winners.add(None if winner is None else completed[winner])
    assert settled(answers, running) is (len(winners) == 1)


def test_a_weighted_vote_is_settled_when_those_to_come_weigh_too_little_at_most_one_each() -> None:
    assert not settled([A, A, None], [2], [0.5, 0.4, 1.0])
    assert settled([A, A, None], [2], [0.6, 0.5, 1.0])


def test_semantic_entropy_by_hand() -> None:
    assert semantic_entropy([A, A, A]) == 0.0
    assert semantic_entropy([A, B]) == pytest.approx(math.log(2))
    # Shares 3/4 and 1/4: 3/4 ln(4/3) + 1/4 ln 4 = 0.2157616 + 0.3465736.
    assert semantic_entropy([A, A, B, A]) == pytest.approx(0.5623351, abs=1e-7)
    # Whoever gave no answer agrees with nobody: shares 1/2, 1/4, 1/4.
    assert semantic_entropy([A, None, A, None]) == pytest.approx(1.5 * math.log(2))
    assert semantic_entropy([None] * 4) == pytest.approx(math.log(4))


@given(st.lists(st.sampled_from([A, B, C, None]), min_size=1, max_size=8))
def test_semantic_entropy_lies_between_agreement_and_disagreement(answers: list[Answer | None]) -> None:
    entropy = semantic_entropy(answers)
    assert -1e-12 <= entropy <= math.log(len(answers)) + 1e-12
    assert semantic_entropy(answers[::-1]) == pytest.approx(entropy)


@pytest.mark.parametrize(
    ("entropies", "rounds", "stops"),
    [
        ([0.0], 3, False),  # the first of three is watched, whatever it is
        ([0.7, 0.5], 3, True),
        ([0.5, 0.7], 3, False),
        ([0.5, 0.7, 0.5], 3, True),  # as good as the best before it
        ([0.5, 0.4], 6, False),  # 6 / e = 2.2: two are watched
        ([0.5, 0.4, 0.45], 6, False),
        ([0.5, 0.4, 0.45, 0.3], 6, True),
        ([math.inf, math.inf], 2, False),  # rounds without answers stop nothing
    ],
)
def test_the_secretary_rule_by_hand(entropies: list[float], rounds: int, stops: bool) -> None:
    assert secretary_stops(entropies, rounds) is stops
