"""Aggregation of step scores, with numbers worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.steps.aggregates import AGGREGATES
from rewards.process.aggregation import differences, pure_rewards, pure_weights

SCORES = st.lists(st.floats(-1, 1), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("scores", "found"),
    [
        ((0.5,), {"last": 0.5, "min": 0.5, "mean": 0.5, "prod": 0.5}),
        ((0.5, 0.25, 1.0), {"last": 1.0, "min": 0.25, "mean": 1.75 / 3, "prod": 0.125}),
        ((1.0, -0.5), {"last": -0.5, "min": -0.5, "mean": 0.25, "prod": -0.5}),
    ],
)
def test_one_value(scores: tuple[float, ...], found: dict[str, float]) -> None:
    assert {name: aggregate(scores) for name, aggregate in AGGREGATES.items()} == pytest.approx(found)


@pytest.mark.parametrize(
    ("scores", "temperature", "weights"),
    [
        # Exponents -9, 8, -5 less the largest: exp(-17), 1, exp(-13).
        ((0.9, -0.8, 0.5), 0.1, (4.1399e-8, 0.9999977, 2.2603e-6)),
        # Equal scores share alike.
        ((0.3, 0.3), 0.5, (0.5, 0.5)),
        # Exponents 0 and ln 3: 1 to 3.
        ((1.0986122887, 0.0), 1.0, (0.25, 0.75)),
    ],
)
def test_pure_weights(scores: tuple[float, ...], temperature: float, weights: tuple[float, ...]) -> None:
    assert pure_weights(scores, temperature) == pytest.approx(weights, rel=1e-4)


def test_pure_rewards_sum_to_about_the_worst_score() -> None:
    assert sum(pure_rewards((0.9, -0.8, 0.5), 0.1)) == pytest.approx(-0.799997, abs=1e-6)
    assert pure_rewards((), 0.1) == []
    assert pure_rewards((-1e6, 1e6), 1e-3) == [-1e6, 0.0], "no overflow"


@given(SCORES)
def test_pure_goes_to_the_minimum(scores: list[float]) -> None:
    assert sum(pure_rewards(scores, 1e-6)) == pytest.approx(min(scores), abs=1e-4)


def test_differences_by_hand() -> None:
    assert differences((0.9, -0.8, 0.5), 0.0) == pytest.approx([0.9, -1.7, 1.3])
    assert differences((0.5,), 0.25) == [0.25]
    assert differences((), 0.7) == []


@given(SCORES, st.floats(-1, 1))
def test_differences_telescope(scores: list[float], before: float) -> None:
    assert sum(differences(scores, before)) == pytest.approx(scores[-1] - before, abs=1e-9)
