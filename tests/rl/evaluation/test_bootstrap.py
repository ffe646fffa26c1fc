import numpy as np
import pytest

from rl.evaluation.bootstrap import mean_interval, percentiles, ratio_interval, resampled_means


def test_two_problems_give_the_binomial_distribution() -> None:
    # Of two draws from {0, 1}: both 0 with 1/4, one each with 1/2, both 1 with 1/4.
    means = resampled_means(np.array([[0.0], [1.0]]), samples=40_000, seed=0)[:, 0]
    shares = [float((means == value).mean()) for value in (0.0, 0.5, 1.0)]
    # Standard error of a share: sqrt(.25 / 40000) = 0.0025 at most; five of them.
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.0125)
    # So the central 40% (quantiles .3 and .7) is the point 0.5, and the central 95% is everything.
    assert percentiles(means, level=0.4) == (0.5, 0.5)
    assert percentiles(means, level=0.95) == (0.0, 1.0)


def test_many_problems_agree_with_the_normal_interval() -> None:
    # Half of 400 problems solved: standard error sqrt(.25 / 400) = 0.025, so 0.5 -+ 1.96 * 0.025.
    values = np.repeat([0.0, 1.0], 200)
    low, high = mean_interval(values, samples=10_000, seed=3)
    assert (low, high) == pytest.approx((0.451, 0.549), abs=0.004)


def test_coverage_is_what_it_says() -> None:
    # 200 evaluations of 100 problems of a model that solves 0.3: about 190 intervals hold 0.3 (sd 3.1).
    generator = np.random.default_rng(5)
    held = 0
    for trial in range(200):
        low, high = mean_interval((generator.random(100) < 0.3).astype(float), samples=500, seed=trial)
        held += low <= 0.3 <= high
    assert 175 <= held <= 199


def test_same_seed_same_interval_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).random(50)
    whole = mean_interval(values, samples=300, seed=7)
    assert mean_interval(values, samples=300, seed=7) == whole
    assert mean_interval(values, samples=300, seed=8) != whole
    monkeypatch.setattr("rl.evaluation.bootstrap.CHUNK", 120)  # two resamples of 50 problems at once
    assert mean_interval(values, samples=300, seed=7) == whole


def test_ratio_is_paired() -> None:
    # One side is always half of the other: whatever is drawn, the ratio of means is 0.5.
    values = np.random.default_rng(1).random(30) + 1
    assert ratio_interval(values, 2 * values, samples=200, seed=0) == pytest.approx((0.5, 0.5))


def test_a_constant_has_no_spread() -> None:
    assert mean_interval(np.full(9, 0.25), samples=100, seed=0) == (0.25, 0.25)
