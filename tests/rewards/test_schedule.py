"""Weights that depend on the training step."""

import json
from math import exp
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from rewards.compose import RewardConfig, at_step, factors_at
from rewards.schedule import Alternating, Annealed, Constant, Schedule, factor
from rewards.score import Score


def schedule(**content: Any) -> Constant | Alternating | Annealed:
    adapter: TypeAdapter[Any] = TypeAdapter(Schedule)
    found = adapter.validate_json(json.dumps(content), strict=True)
    assert isinstance(found, Constant | Alternating | Annealed)
    return found


def test_constant() -> None:
    assert {factor(schedule(kind="constant"), step) for step in range(50)} == {1.0}


def test_alternating_counts_at_the_published_steps() -> None:
    found = schedule(kind="alternating", period=10, start=8, length=2)
    assert [step for step in range(31) if factor(found, step)] == [8, 9, 18, 19, 28, 29]
    first = schedule(kind="alternating", period=3, length=1)
    assert [factor(first, step) for step in range(5)] == [1.0, 0.0, 0.0, 1.0, 0.0]


def test_annealed_by_hand() -> None:
    linear = schedule(kind="annealed", steps=4, floor=0.2)
    assert [factor(linear, step) for step in range(6)] == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0.2])
    away = schedule(kind="annealed", steps=50, shape="exponential")
    assert factor(away, 0) == 1.0
    assert factor(away, 50) == pytest.approx(exp(-1))
    assert factor(away, 100) == pytest.approx(exp(-2))


@settings(deadline=None)
@given(
    st.builds(
        Annealed,
        kind=st.just("annealed"),
        steps=st.integers(1, 100),
        shape=st.sampled_from(["linear", "exponential"]),
        floor=st.floats(0, 0.99),
    ),
    st.integers(0, 300),
)
def test_annealing_only_falls_and_never_below_its_floor(found: Annealed, step: int) -> None:
    assert found.floor <= factor(found, step + 1) <= factor(found, step) <= 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "alternating", "period": 10, "length": 10},
        {"kind": "alternating", "period": 10, "start": 9, "length": 2},
        {"kind": "alternating", "period": 1, "length": 1},
        {"kind": "annealed", "steps": 0},
        {"kind": "annealed", "steps": 5, "floor": 1.0},
        {"kind": "constant", "steps": 5},
        {"period": 10},
    ],
)
def test_schedules_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        schedule(**wrong)


def test_a_score_at_a_step() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(list[RewardConfig])
    configs = adapter.validate_json(
        json.dumps(
            [
                {"name": "correct"},
                {"name": "parl", "schedule": {"kind": "annealed", "steps": 4}},
                {"name": "format", "schedule": {"kind": "alternating", "period": 2, "length": 1}},
            ]
        )
    )
    score = Score(
        value=1.2, components={"correct": 1.0, "parl": 0.3, "format": -0.1}, reason="why", correct=True
    )
    assert at_step(score, factors_at(configs, 0)) == score
    later = at_step(score, factors_at(configs, 1))
    assert later.components == pytest.approx({"correct": 1.0, "parl": 0.225, "format": 0.0})
    assert (later.value, later.reason, later.correct) == (pytest.approx(1.225), "why", True)
    ungraded = Score(value=None, reason="the judge is away")
    assert at_step(ungraded, factors_at(configs, 1)) is ungraded
