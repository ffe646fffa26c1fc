"""Strategies on recorded samples, with numbers worked out by hand."""

import math

import pytest

from rl.evaluation.eflops import ClockedCall, ModelShape
from rl.evaluation.strategies.allocation import Option, agreement, allocate, bin_of
from rl.evaluation.strategies.choices import CHOICES, first_finish
from rl.evaluation.strategies.entropy_threshold import Round, calibrate, stopped_at
from rl.evaluation.strategies.sample import Cost, Piece, Sample, cost_of
from rl.evaluation.strategies.set_cover import cheapest_cover, set_cover
from rl.evaluation.strategies.width_law import ShiftedExponential, fit_exponential, mean_first, width_law

ONE = ModelShape(weights=10, layers=1, query_heads=1, key_value_heads=1, head_size=1)


def sample(
    answer: str | None, tokens: int, logprob: float = -1.0, *, ids: str = "", seconds: float = 0.0
) -> Sample:
    """A sample of one call; its ids are letters, or differ all."""
    output = tuple(map(ord, ids)) if ids else tuple(range(tokens))
    assert len(output) == tokens
    return Sample(
        answer=answer,
        correct=answer == "5",
        calls=(ClockedCall(context=(1, 2, 3), begin=0, length=tokens),),
        seconds=seconds,
        mean_logprob=logprob,
        pieces=(Piece(begin=0, output=output, logprobs=(logprob,) * tokens),),
    )


@pytest.mark.parametrize(
    ("name", "winner"),
    [
        ("majority", 1),  # 6 twice
        ("confidence", 0),  # e^-0.1 = 0.90 against 2 e^-1 = 0.74
        ("inverse_entropy", 0),  # 10 against 2
        ("shortest", 1),  # 1 / log 100 = 0.22, 2 / log 50 = 0.51
        ("best_of_n", 0),
        ("first_finish", 2),
    ],
)
def test_each_strategy_has_its_own_winner(name: str, winner: int) -> None:
    samples = [sample("5", 100, -0.1), sample("6", 60), sample("6", 40), sample(None, 10, 0.0)]
    assert CHOICES[name](samples).winner == winner
    assert CHOICES[name]([sample(None, 5)]).winner is None


def test_a_short_answer_beats_a_frequent_one() -> None:
    # 2 / log 1000 = 0.29 against 1 / log 8 = 0.48.
    assert CHOICES["shortest"]([sample("6", 1000), sample("6", 1000), sample("5", 8)]).winner == 2


def test_samples_side_by_side_add_tokens_and_the_longest_counts() -> None:
    samples = [sample("5", 4, seconds=2.0), sample("6", 2, seconds=3.0)]
    # Context 3: compute 2*10*6 + 2*(6+4)*4 + 2*(6+2)*2 = 232; reads 4*(3*4 + 8 + 2) = 88 bytes.
    assert cost_of(samples, ONE) == Cost(
        total_tokens=6, critical_tokens=4, critical_seconds=3.0, eflops=232 + 562 * 88
    )
    assert cost_of(samples, None).eflops is None


def test_cancelled_samples_are_paid_until_they_are_cancelled() -> None:
    samples = [sample("5", 10, seconds=5.0), sample("6", 4, seconds=2.0), sample(None, 2)]
    choice = first_finish(samples)
    assert choice.winner == 1 and choice.stops == (4, 4, 4)
    cost = cost_of(samples, None, choice.stops)
    assert (cost.total_tokens, cost.critical_tokens) == (4 + 4 + 2, 4)
    assert cost.critical_seconds == pytest.approx(2.0)
    assert first_finish([sample(None, 9)]).stops is None


def test_the_greedy_cover_by_hand() -> None:
    sets = [frozenset({1, 2, 3}), frozenset({1, 2}), frozenset({3, 4})]
    assert cheapest_cover(sets, [1.0, 0.4, 0.5]) == [1, 2]
    assert cheapest_cover(sets, [0.1, 0.4, 0.5]) == [0, 2]
    assert cheapest_cover([frozenset({1}), frozenset({1})], [1.0, 1.0]) == [0]
    assert cheapest_cover([frozenset()], [1.0]) == []


def test_a_sample_that_brings_nothing_new_is_stopped_and_has_no_vote() -> None:
    # At tick 2: {a, b} at 1, {a, b} at 2, {c, d} at 1: the second is stopped, though it would have won a tie.
    samples = [sample("5", 4, -1.0, ids="abxx"), sample("6", 4, -2.0, ids="abyy"), sample("5", 3, ids="cdz")]
    choice = set_cover(samples, 2)
    assert choice.winner == 0 and choice.stops == (4, 2, 3)
    assert cost_of(samples, None, choice.stops).total_tokens == 9
    # Checked for the first time when only one still runs, nothing is stopped.
    assert set_cover(samples, 4).stops == (4, 4, 3)


def test_the_first_of_n_by_hand() -> None:
    assert mean_first([6, 1, 2], 1) == pytest.approx(3)
    assert mean_first([6, 1, 2], 2) == pytest.approx(4 / 3)
    assert mean_first([6, 1, 2], 3) == 1


def test_the_exponential_law_by_hand() -> None:
    law = fit_exponential([10, 20, 30])
    assert (law.least, law.scale) == (pytest.approx(5), pytest.approx(15))
    assert law.first_of(1) == pytest.approx(20) and law.first_of(3) == pytest.approx(10)
    assert law.most_speed_up == pytest.approx(4)
    assert ShiftedExponential(least=0, scale=1).most_speed_up == math.inf


def test_the_law_is_measured_on_samples_that_it_has_not_seen() -> None:
    (one, two) = width_law([[10, 20, 40, 60]])
    assert (one.n, one.measured, one.empirical) == (1, 50, 15)
    assert (two.n, two.measured, two.empirical) == (2, 40, 10)
    # 10, 20: scale 10, x_0 = 5.
    assert (one.exponential, two.exponential) == (pytest.approx(15), pytest.approx(10))
    assert width_law([[1, 2, 3]]) == [] and width_law([]) == []


def test_bins_go_by_agreement() -> None:
    votes = [sample("5", 1), sample("5", 1), sample("6", 1), sample(None, 1)]
    assert agreement(votes) == 0.5 and agreement([sample(None, 1)]) == 0
    assert [bin_of(share) for share in (0.25, 0.5, 0.75, 1.0)] == [0, 1, 2, 2]


def test_samples_go_where_they_help_most() -> None:
    hard = [Option(cost=1, accuracy=0.1), Option(cost=4, accuracy=0.5)]
    easy = [Option(cost=1, accuracy=0.9), Option(cost=4, accuracy=0.95)]
    # Half of the problems each: (4 + 1) / 2 = 2.5 gives (0.5 + 0.9) / 2, and the other way round less.
    assert allocate([hard, easy], [0.5, 0.5], 2.5) == (1, 0)
    assert allocate([hard, easy], [0.5, 0.5], 4) == (1, 1)
    assert allocate([hard, easy], [0.5, 0.5], 1) == (0, 0)
    assert allocate([hard, easy], [0.5, 0.5], 0.9) is None


def test_the_threshold_loses_no_more_than_it_may() -> None:
    first = [Round(entropy=0.7, correct=False), Round(entropy=0.0, correct=True)]
    second = [Round(entropy=0.7, correct=True), Round(entropy=0.0, correct=True)]
    assert stopped_at(first, 0.7) == 0 and stopped_at(first, 0.5) == 1 and stopped_at(first, -1) == 1
    assert calibrate([first, second]) == 0.0
    assert calibrate([first, second], tolerance=0.5) == 0.7
    # Stopping may help: the last round is then the worse one.
    assert calibrate([[Round(entropy=0.2, correct=True), Round(entropy=0.9, correct=False)]]) == 0.9
    assert calibrate([]) is None
