"""Statistics that tell wrong weights from rounding, by hand and on planted errors of a known size."""

import math
import random

import pytest

from rl.controller.agreement import ERRORS, FLOOR, RATIO, Agreement, compare, rms, rounding_limit


def test_rms() -> None:
    assert rms([3.0, 4.0]) == math.sqrt(12.5)
    assert rms([]) == 0.0


def test_the_limit_is_that_of_the_text_or_the_floor() -> None:
    assert rounding_limit("bfloat16", [0.1, -0.1]) == pytest.approx(RATIO * 0.1)
    assert rounding_limit("bfloat16", [0.0]) == FLOOR["bfloat16"]
    assert rounding_limit("float32", []) == FLOOR["float32"]


def test_the_regression_by_hand() -> None:
    """The update is 1, 2, 2. Of it the engine has (0.5, 1, 1) less by half, and 0.3 off at the first token:
    r = (-0.5 + 0.3, -1, -1), missing = -(r u) / 9 = 4.2 / 9; r + missing u = (2.4, -0.6, -0.6) / 9,
    error^2 = (5.76 + 0.36 + 0.36) / 81 / 2 / 9.
    """
    found = compare([-0.2, 0.0, 0.0], [0.0, 1.0, 1.0], [-1.0, -1.0, -1.0], 10.0)
    assert found.rms == pytest.approx(math.sqrt((0.04 + 1 + 1) / 3))
    assert found.missing == pytest.approx(4.2 / 9)
    assert found.error == pytest.approx(math.sqrt(6.48 / 81 / 2 / 9))
    assert found.lacks_update is (ERRORS * math.sqrt(6.48 / 81 / 18) < 4.2 / 9)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_never_holds(value: float) -> None:
    assert not compare([value, 0.0], [0.0, 0.0], [1.0, 1.0], 10.0).holds
    assert not compare([value, 0.0], [0.0, 0.0], (), 10.0).holds


def engine(*, noise: float, update: float, missing: float, tokens: int = 512, seed: int = 0) -> Agreement:
    """An engine with rounding and updates of this rms, which lacks a share of the last one."""
    rng = random.Random(seed)
    before = [rng.uniform(-5, 0) for _ in range(tokens)]
    change = [rng.gauss(0, update) for _ in range(tokens)]
    expected = [a + b for a, b in zip(before, change, strict=True)]
    # Errors with long tails, as rounding has them: a few tokens are off by many times the rms.
    errors = [rng.gauss(0, noise) * math.exp(rng.gauss(-1, 1)) for _ in range(tokens)]
    found = [a - missing * b + e for a, b, e in zip(expected, change, errors, strict=True)]
    return compare(found, expected, before, rounding_limit("bfloat16", [noise]))


@pytest.mark.medium
def test_honest_engines_raise_no_alarm() -> None:
    """Updates from far below the rounding to far above it, a thousand of each size."""
    for update in (0.0, 1e-3, 0.03, 0.3):
        assert all(engine(noise=0.04, update=update, missing=0.0, seed=n).holds for n in range(1000))


@pytest.mark.parametrize(("update", "missing"), [(0.3, 1.0), (0.3, 0.5), (0.03, 1.0), (0.05, 0.5)])
def test_a_missing_update_is_found(update: float, missing: float) -> None:
    """Also where it is smaller than the rounding of a token: the alarm is that of the regression."""
    found = [engine(noise=0.04, update=update, missing=missing, seed=n) for n in range(100)]
    assert all(one.lacks_update and not one.holds for one in found)
    assert update > 0.1 or all(one.rms <= one.limit for one in found)
    assert all(one.missing == pytest.approx(missing, abs=0.4) for one in found)


def test_what_cannot_be_found() -> None:
    """An update far below rounding: 0.001 against 0.04 over 512 tokens."""
    assert engine(noise=0.04, update=1e-3, missing=1.0).holds


def test_rounding_of_the_expected_values_is_no_missing_update() -> None:
    """Nothing changed but the last bits of the learner's values: they are in both r and u."""
    rng = random.Random(1)
    true = [rng.uniform(-5, 0) for _ in range(512)]
    twice = [[value + rng.gauss(0, 1e-6) for value in true] for _ in range(3)]
    assert compare(twice[0], twice[1], twice[2], 3e-4).holds
