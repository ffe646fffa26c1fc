"""The early-rejection curve, with counts worked out by hand."""

import pytest

from rl.evaluation.rejection_curve import Chain, curve_point


def chain(tokens: int, right: bool, value: float) -> Chain:
    return Chain(tokens=tokens, right=right, value=value)


FIRST = [chain(10, True, 0.9), chain(8, False, 0.1), chain(3, True, 0.0), chain(6, True, 0.2)]
SECOND = [chain(10, False, 0.8), chain(12, True, 0.3)]


def test_the_better_half_goes_on() -> None:
    """tau 4. First problem: the chain of 3 has ended; of 10, 8, 6 tokens with 0.9, 0.1, 0.2 ceil(1.5) = 2 go
    on, so 8 - 4 = 4 tokens of 27 are saved and no right chain is lost. Second: one of two goes on, the wrong
    one; 12 - 4 = 8 of 22 are saved, its only right chain is lost. 12 / 49; 1 of 4 right chains; 1 of 2
    problems.
    """
    point = curve_point([FIRST, SECOND], 4, 0.5)
    assert point.saved.share == pytest.approx(12 / 49)
    assert point.lost is not None and point.lost.share == pytest.approx(1 / 4)
    assert point.unsolved is not None and point.unsolved.share == pytest.approx(1 / 2)


def test_only_the_best_goes_on() -> None:
    """tau 4, a tenth: of the first problem 10 goes on; 4 + 2 tokens are saved, a right chain of 3 is lost."""
    point = curve_point([FIRST], 4, 0.1)
    assert point.saved.share == pytest.approx(6 / 27)
    assert point.lost is not None and point.lost.share == pytest.approx(1 / 3)
    assert point.unsolved is not None and point.unsolved.share == 0.0


def test_below_the_floor_only_the_best_goes_on() -> None:
    """All may go on, but 0.1 and 0.2 are under 0.5; in the second problem 0.3 is."""
    point = curve_point([FIRST, SECOND], 4, 1.0, floor=0.5)
    assert point.saved.share == pytest.approx((4 + 2 + 8) / 49)
    assert point.lost is not None and point.lost.share == pytest.approx(2 / 4)


def test_behind_the_longest_chain_nothing_is_saved_or_lost() -> None:
    point = curve_point([FIRST, SECOND], 12, 0.1)
    assert point.saved.share == 0.0 and point.saved.interval == (0.0, 0.0)
    assert point.lost is not None and point.lost.share == 0.0


def test_without_a_right_chain_there_is_none_to_lose() -> None:
    point = curve_point([[chain(10, False, 0.8), chain(12, False, 0.3)]], 4, 0.5)
    assert point.lost is None and point.unsolved is None and point.saved.share == pytest.approx(8 / 22)


def test_the_interval_holds_its_share() -> None:
    point = curve_point([FIRST, SECOND] * 20, 4, 0.5)
    low, high = point.saved.interval
    assert low < point.saved.share < high
