"""DAPO's soft overlong punishment, with numbers worked out by hand."""

import json
from typing import Any

import pytest
from episodes import call, episode
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from data.episodes.trajectory import Episode
from data.tasks.countdown import Countdown
from data.tasks.problem import Problem
from data.text.build_words import build_tokenizer
from data.text.codec import Codec
from rewards.compose import RewardConfig, compose
from rewards.terms.overlong import overlong_penalty

CONFIG: TypeAdapter[Any] = TypeAdapter(RewardConfig)
TASK = Countdown()
CODEC = Codec(build_tokenizer(TASK.words(), numbers=99, digits=False))
PROBLEM = Problem("p", "countdown", {"numbers": [10, 9, 4, 2], "target": 44})


def forked() -> Episode:
    """Threads of 70 and 200 tokens between the 30 and the 10 of their parent: total 310, critical 240."""
    return episode((call(0, 0, 30), call(1, 1, 70, (0,)), call(2, 2, 200, (0,)), call(3, 0, 10, (0, 1, 2))))


def reward(**given: Any) -> float:
    config = CONFIG.validate_json(json.dumps({"name": "overlong", **given}), strict=True)
    value = compose([config], TASK, CODEC)(PROBLEM, forked()).value
    assert value is not None
    return value


@pytest.mark.parametrize(
    ("tokens", "penalty"),
    [
        (0, 0.0),
        (16_384, 0.0),
        (17_408, -0.25),  # 1,024 of 4,096
        (18_432, -0.5),  # 2,048 of 4,096
        (20_479, -4_095 / 4_096),
        (20_480, -1.0),
        (50_000, -1.0),
    ],
)
def test_the_paper_s_constants(tokens: int, penalty: float) -> None:
    assert overlong_penalty(tokens, max_tokens=20_480, buffer=4_096) == penalty


@pytest.mark.parametrize(("tokens", "penalty"), [(100, 0.0), (101, -1.0)])
def test_without_a_buffer_there_is_only_the_limit(tokens: int, penalty: float) -> None:
    assert overlong_penalty(tokens, max_tokens=100, buffer=0) == penalty


def test_a_buffer_as_large_as_the_limit_prices_every_token() -> None:
    assert overlong_penalty(25, max_tokens=100, buffer=100) == -0.25


@given(tokens=st.integers(0, 300), limit=st.integers(1, 200), buffer=st.integers(1, 200))
def test_one_more_token_never_helps_and_costs_at_most_its_share(tokens: int, limit: int, buffer: int) -> None:
    buffer = min(buffer, limit)
    before, after = (
        overlong_penalty(count, max_tokens=limit, buffer=buffer) for count in (tokens, tokens + 1)
    )
    assert -1.0 <= after <= before <= 0.0
    assert before - after <= 1 / buffer + 1e-12


def test_it_counts_all_calls_or_the_longest_path() -> None:
    # Total 310: 60 into a buffer of 100. Critical 240: below 250.
    assert reward(max_tokens=350, buffer=100) == pytest.approx(-0.6)
    assert reward(max_tokens=350, buffer=100, measure="critical") == 0.0
    # Critical 240: 40 into a buffer of 50.
    assert reward(max_tokens=250, buffer=50, measure="critical") == pytest.approx(-0.8)
    assert reward(max_tokens=250, buffer=50) == -1.0


def test_a_buffer_above_the_limit_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"buffer \(101\) must not be above max_tokens \(100\)"):
        reward(max_tokens=100, buffer=101)
