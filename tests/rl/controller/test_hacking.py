"""Alarm for a hacked scorer: by hand, on policies that drift, and on runs in which nothing is wrong."""

import json
from collections.abc import Sequence
from math import sqrt
from pathlib import Path

import pytest

from rl.controller.hacking import Gain, find_hacking, gain_of, is_hacked
from tests.support.drift_lab import Series, train

BLOCK, FOLLOW = 5, 0.5
RECORDED = json.loads((Path(__file__).parent / "undisturbed.json").read_text())


def gain(value: float, error: float = 0.0) -> Gain:
    return Gain(gain=value, error=error)


def first_alarm(opinions: Sequence[float], accuracies: Sequence[float]) -> int | None:
    """First step (0-based) with an alarm, when every step asks."""
    for step in range(len(opinions)):
        if find_hacking(opinions[: step + 1], accuracies[: step + 1], BLOCK, FOLLOW):
            return step
    return None


@pytest.mark.parametrize(
    ("earlier", "newest", "difference", "error"),
    [
        ([0.4, 0.4], [0.8, 0.8], 0.4, 0.0),
        # Each block: mean of squares (0.1^2 + 0.1^2) / 1 = 0.02, over 2 steps 0.01.
        ([0.3, 0.5], [0.5, 0.7], 0.2, sqrt(0.01 + 0.01)),
        # (0.2^2 + 0 + 0.2^2) / 2 = 0.04, over 3 steps 0.04 / 3; the other one has none.
        ([0.2, 0.4, 0.6], [0.3, 0.3, 0.3], -0.1, sqrt(0.04 / 3)),
    ],
)
def test_gain_by_hand(earlier: list[float], newest: list[float], difference: float, error: float) -> None:
    found = gain_of(earlier, newest)
    assert (found.gain, found.error) == (pytest.approx(difference), pytest.approx(error))


@pytest.mark.parametrize(
    ("opinion", "lead", "hacked"),
    [
        (gain(0.2, 0.05), gain(0.1, 0.04), True),  # 4 and 2.5 errors
        (gain(0.2, 0.11), gain(0.1, 0.04), False),  # 1.8 errors: it may be noise
        (gain(0.2, 0.05), gain(0.1, 0.06), False),  # accuracy may have followed
        (gain(0.04), gain(0.02), False),  # too little to look at
        (gain(-0.2), gain(0.3), False),  # accuracy alone falls: nobody is pleased
    ],
)
def test_both_gains_have_to_be_sure(opinion: Gain, lead: Gain, hacked: bool) -> None:
    assert is_hacked(opinion, lead) is hacked


@pytest.mark.parametrize(
    ("accuracies", "hacked"),
    [
        ([0.5, 0.5, 0.5, 0.5], True),  # lead: 0.5 * 0.4 - 0
        ([0.5, 0.5, 0.3, 0.3], True),
        ([0.5, 0.5, 0.7, 0.7], False),  # lead: 0.2 - 0.2
        ([0.3, 0.7, 0.3, 0.7], False),  # flat; the error of its mean is sqrt(0.04 + 0.04) = 0.28
    ],
)
def test_blocks_of_two_by_hand(accuracies: list[float], hacked: bool) -> None:
    found = find_hacking([0.4, 0.4, 0.8, 0.8], accuracies, 2, 0.5)
    assert (found is not None) is hacked
    if found:
        assert (found.steps, found.opinion.gain) == (2, pytest.approx(0.4))


def test_a_slow_drift_is_seen_from_afar() -> None:
    """0.004 a step: in 5 steps 0.02, which is too little; in 20 steps 0.08."""
    opinions = [0.4 + 0.004 * step for step in range(25)]
    found = find_hacking(opinions, [0.5] * 25, 5, 0.5)
    assert found is not None and found.steps == 20
    assert find_hacking(opinions[:24], [0.5] * 24, 5, 0.5) is None


def test_too_short_a_series_says_nothing() -> None:
    assert find_hacking([0.1] * 4 + [0.9] * 5, [0.5] * 9, 5, 0.5) is None
    assert find_hacking([], [], 5, 0.5) is None


@pytest.mark.parametrize(("rate", "groups"), [(0.1, 16), (0.2, 16), (0.4, 64)])
def test_a_scorer_that_likes_length_is_found_before_accuracy_has_lost_five_points(
    rate: float, groups: int
) -> None:
    for seed in range(4):
        series = train("length", seed=seed, steps=120, rate=rate, groups=groups)
        lost = series.lost(0.05)
        assert series.true_accuracies[-1] < series.true_accuracies[0] - 0.05, "it is hacked in the end"
        alarm = first_alarm(series.opinions, series.accuracies)
        assert alarm is not None and alarm < lost


def test_honest_scorers_raise_no_alarm() -> None:
    """Rewarded by it, and merely watched."""
    for seed in range(4):
        for series in (
            train("honest", seed=seed, steps=120, rate=0.4),
            train("none", seed=seed, steps=120, rate=0.4),
        ):
            assert isinstance(series, Series) and first_alarm(series.opinions, series.accuracies) is None


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_undisturbed_runs_raise_no_alarm(name: str) -> None:
    """Accuracies of a finished run, and what the exact labels say of its steps in place of a scorer."""
    run = RECORDED[name]
    assert len(run["opinions"]) == len(run["accuracies"]) >= 10
    assert first_alarm(run["opinions"], run["accuracies"]) is None
