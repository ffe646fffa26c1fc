"""Advantage estimators, with numbers worked out by hand and what holds for all of them."""

import math
from dataclasses import replace

import pytest
from episodes import call, episode
from hypothesis import given
from hypothesis import strategies as st

from rl.algorithms.advantages.batch import batch_std, group_mean_batch_std, group_mean_reward_std
from rl.algorithms.advantages.estimator import mean, std
from rl.algorithms.advantages.estimators import ESTIMATORS
from rl.algorithms.advantages.group import group_mean, group_std
from rl.algorithms.advantages.leave_one_out import leave_one_out
from rl.algorithms.advantages.roles import role_mask

REWARDS = st.one_of(st.none(), st.integers(-8, 8).map(lambda eighths: eighths / 8))
BATCHES = st.lists(st.lists(REWARDS, max_size=5), max_size=5)
NAMES = pytest.mark.parametrize("name", list(ESTIMATORS))


def near(expected: list[list[float]]) -> list[object]:
    """Within 1e-5: the 1e-6 beside a standard deviation of 0.4 and more changes less than that."""
    return [pytest.approx(group, abs=1e-5) for group in expected]


def test_mean_and_std_by_hand() -> None:
    assert mean([1.0, 2.0, 6.0]) == 3.0
    # Squares 4 + 1 + 9 over 2.
    assert std([1.0, 2.0, 6.0]) == pytest.approx(math.sqrt(7))
    assert std([5.0]) == 0.0


# one group


def test_group_std_by_hand() -> None:
    # Mean 0.5, variance 4 * 0.25 / 3.
    high = 0.5 / math.sqrt(1 / 3)
    # Mean 1, variance (4 + 1 + 1) / 2 = 3.
    third = 1 / math.sqrt(3)
    assert group_std([[1.0, 0.0, 1.0, 0.0], [3.0, 0.0, 0.0], [2.0, None, 0.0], [1.0, None]]) == near(
        [
            [high, -high, high, -high],
            [2 * third, -third, -third],
            [1 / math.sqrt(2), 0.0, -1 / math.sqrt(2)],  # mean 1, variance 2 / 1
            [0.0, 0.0],
        ]
    )


def test_group_mean_by_hand() -> None:
    assert group_mean([[1.0, 0.0, 1.0, 0.0], [3.0, 0.0, 0.0], [1.0, None, 0.5], [0.7, None], []]) == [
        [0.5, -0.5, 0.5, -0.5],
        [2.0, -1.0, -1.0],
        [0.25, 0.0, -0.25],
        [0.0, 0.0],
        [],
    ]


def test_leave_one_out_by_hand() -> None:
    assert leave_one_out(
        [[1.0, 0.0, 0.5], [1.0, 0.0], [4.0, None, 1.0, 1.0], [1.0], [0.0, 0.0, 0.0, 1.0]]
    ) == near(
        [
            [1.0 - 0.25, 0.0 - 0.75, 0.5 - 0.5],
            [1.0, -1.0],
            [4.0 - 1.0, 0.0, 1.0 - 2.5, 1.0 - 2.5],
            [0.0],
            [-1 / 3, -1 / 3, -1 / 3, 1.0],
        ]
    )


# the whole batch


def test_batch_std_by_hand() -> None:
    # Mean 0.75, variance (3 * 0.0625 + 0.5625) / 3 = 0.25.
    assert batch_std([[1.0, 0.0], [1.0, 1.0]]) == near([[0.5, -1.5], [0.5, 0.5]])
    # Mean 2, variance (1 + 0 + 1) / 2 = 1: a group of one is compared with the batch.
    assert batch_std([[3.0, None], [2.0], [1.0]]) == near([[1.0, 0.0], [0.0], [-1.0]])
    # Mean 0, variance (4 + 4) / 3, with two zeros that have an advantage of 0 of their own.
    assert batch_std([[2.0, 0.0, 0.0, -2.0]]) == near([[math.sqrt(1.5), 0.0, 0.0, -math.sqrt(1.5)]])
    assert batch_std([[3.0], [None]]) == [[0.0], [0.0]]


def test_group_mean_batch_std_by_hand() -> None:
    # Centred 0.5, -0.5, 0, 0: variance 0.5 / 3.
    unit = 0.5 / math.sqrt(0.5 / 3)
    assert group_mean_batch_std([[1.0, 0.0], [1.0, 1.0]]) == near([[unit, -unit], [0.0, 0.0]])
    # Centred 1, -1 and 2, -2: variance 10 / 3. How hard each problem is (10 and 2 on average) plays no part.
    unit = 1 / math.sqrt(10 / 3)
    assert group_mean_batch_std([[11.0, 9.0], [4.0, 0.0]]) == near([[unit, -unit], [2 * unit, -2 * unit]])
    # Centred 1, -1: variance 2 / 1; the lonely 100 is not in it.
    unit = 1 / math.sqrt(2)
    assert group_mean_batch_std([[1.0, None, -1.0], [100.0, None]]) == near([[unit, 0.0, -unit], [0.0, 0.0]])


def test_group_mean_reward_std_by_hand() -> None:
    # Rewards 1, 0, 1, 1 with variance 0.25; -1 and 1 would give twice that std and the same advantages.
    assert group_mean_reward_std([[1.0, 0.0], [1.0, 1.0]]) == near([[1.0, -1.0], [0.0, 0.0]])
    assert group_mean_reward_std([[1.0, -1.0], [1.0, 1.0]]) == near([[1.0, -1.0], [0.0, 0.0]])
    # Rewards 11, 9, 4, 0: mean 6, variance (25 + 9 + 4 + 36) / 3.
    unit = 1 / math.sqrt(74 / 3)
    assert group_mean_reward_std([[11.0, 9.0], [4.0, 0.0]]) == near([[unit, -unit], [2 * unit, -2 * unit]])
    # Rewards 2, 0, 4: mean 2, variance 8 / 2; the lonely 4 counts in the std and has no sibling.
    assert group_mean_reward_std([[2.0, None, 0.0], [4.0]]) == near([[0.5, 0.0, -0.5], [0.0]])


# all of them


@NAMES
@given(batch=BATCHES)
def test_advantages_have_the_shape_of_the_batch_and_0_for_what_was_not_graded(
    name: str, batch: list[list[float | None]]
) -> None:
    found = ESTIMATORS[name](batch)
    assert [len(group) for group in found] == [len(group) for group in batch]
    for group, values in zip(batch, found, strict=True):
        assert all(math.isfinite(value) for value in values)
        assert all(value == 0.0 for reward, value in zip(group, values, strict=True) if reward is None)


@NAMES
@given(batch=BATCHES)
def test_what_was_not_graded_changes_nothing(name: str, batch: list[list[float | None]]) -> None:
    without = [[value for value in group if value is not None] for group in batch]
    kept = [
        [value for value, reward in zip(values, group, strict=True) if reward is not None]
        for values, group in zip(ESTIMATORS[name](batch), batch, strict=True)
    ]
    assert kept == ESTIMATORS[name](without)


@NAMES
@given(value=st.floats(-1e6, 1e6), sizes=st.lists(st.integers(0, 6), max_size=5))
def test_equal_values_give_exactly_0(name: str, value: float, sizes: list[int]) -> None:
    assert ESTIMATORS[name]([[value] * size for size in sizes]) == [[0.0] * size for size in sizes]


@pytest.mark.medium
@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "batch_std"])
@given(batch=BATCHES, shift=st.integers(-8, 8))
def test_a_group_sums_to_0_and_a_constant_added_to_it_cancels(
    name: str, batch: list[list[float | None]], shift: int
) -> None:
    estimate = ESTIMATORS[name]
    assert [sum(values) for values in estimate(batch)] == pytest.approx([0.0] * len(batch), abs=1e-9)
    if name == "group_mean_reward_std":
        return  # its std sees how far groups lie apart
    shifted = [
        [None if value is None else value + shift * place for value in group]
        for place, group in enumerate(batch)
    ]
    for before, after in zip(estimate(batch), estimate(shifted), strict=True):
        assert after == pytest.approx(before, abs=1e-9)


@pytest.mark.parametrize("name", ["batch_std", "group_mean_batch_std"])
@given(batch=BATCHES)
def test_advantages_over_a_std_of_themselves_have_a_std_of_1(
    name: str, batch: list[list[float | None]]
) -> None:
    least = 1 if name == "batch_std" else 2
    found = [
        advantage
        for group, values in zip(batch, ESTIMATORS[name](batch), strict=True)
        for reward, advantage in zip(group, values, strict=True)
        if reward is not None and sum(other is not None for other in group) >= least
    ]
    # Rewards are eighths of at most 25: a std is above 0.02 or 0, and 1e-6 beside it is below 1e-4 of it.
    assert std(found) == pytest.approx(1.0, abs=1e-4) or not any(found)


@given(group=st.lists(REWARDS, max_size=6))
def test_leave_one_out_against_its_definition(group: list[float | None]) -> None:
    expected: list[float] = []
    for place, value in enumerate(group):
        others = [other for number, other in enumerate(group) if number != place and other is not None]
        expected.append(0.0 if value is None or not others else value - sum(others) / len(others))
    assert leave_one_out([group]) == [pytest.approx(expected, abs=1e-9)]


# roles


def test_role_mask() -> None:
    forked = (call(0, 0, 2), call(1, 1, 3, (0,)), call(2, 2, 3, (0,)), call(3, 0, 1, (0, 1, 2)))
    roles = ("parent", "child", "judge", "parent")
    whole = episode([replace(made, role=role) for made, role in zip(forked, roles, strict=True)])
    assert role_mask(whole, None) == [True, True, True, True]
    assert role_mask(whole, ("parent",)) == [True, False, False, True]
    assert role_mask(whole, ("child", "judge")) == [False, True, True, False]
    assert role_mask(whole, ()) == [False, False, False, False]
