"""Accuracy at equal cost, with numbers worked out by hand."""

import numpy as np
import pytest

from rl.evaluation.equal_cost import Setting, at_cost, equal_cost


def setting(cost: list[float], correct: list[float]) -> Setting:
    return Setting(cost=np.array(cost, dtype=float), correct=np.array(correct, dtype=float))


def test_between_two_settings_a_coin_decides() -> None:
    costs, accuracies = np.array([200.0, 100.0]), np.array([0.4, 0.2])
    assert at_cost(costs, accuracies, 150) == pytest.approx(0.3)
    assert at_cost(costs, accuracies, 100) == pytest.approx(0.2)
    assert at_cost(costs, accuracies, 99.9) is None
    assert at_cost(costs, accuracies, 200.1) is None


def test_of_settings_that_cost_alike_the_better_counts() -> None:
    assert at_cost(np.array([100.0, 100.0]), np.array([0.5, 0.2]), 100) == pytest.approx(0.5)


def test_intervals_hold_the_figure_and_shrink_with_problems() -> None:
    cheap, dear = [100.0, 120.0] * 10, [200.0, 180.0] * 10
    some = [setting(cheap, [0.0, 1.0] * 10), setting(dear, [1.0, 1.0] * 10)]
    # Mean costs 110 and 190, accuracies 0.5 and 1: 0.75 half-way.
    (found, outside) = equal_cost(some, [150, 300], samples=400, seed=0)
    assert found is not None and outside is None
    assert found.accuracy == pytest.approx(0.75)
    low, high = found.interval
    assert low < 0.75 < high
    many = [setting(cheap * 16, [0.0, 1.0] * 160), setting(dear * 16, [1.0, 1.0] * 160)]
    (finer,) = equal_cost(many, [150], samples=400, seed=0)
    assert finer is not None and finer.interval[1] - finer.interval[0] < (high - low) / 2
