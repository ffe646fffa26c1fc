"""Percentile bootstrap over problems.

The problems of an evaluation are independent draws; the samples of one problem are not. So whole problems are
resampled with replacement, each with all its samples (cluster bootstrap). For a mean over problems, one value
per problem is enough.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3 (percentile interval).
"""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Interval = tuple[float, float]
CHUNK = 1 << 20
"""Number of indices drawn at once; it bounds memory (8 MB) for any number of problems."""


def resampled_means(values: Values, *, samples: int, seed: int) -> Values:
    """[samples, C] means of `values` [P, C] over problems drawn with replacement, equal for all columns."""
    problems = len(values)
    assert problems > 0 and samples > 0 and values.ndim == 2, "needs problems [P, C] and a resample"
    generator = np.random.default_rng(seed)
    rows = max(1, CHUNK // problems)
    means = []
    for start in range(0, samples, rows):
        drawn = generator.integers(problems, size=(min(rows, samples - start), problems))
        means.append(values[drawn].mean(axis=1))
    return np.concatenate(means)


def percentiles(statistic: Values, *, level: float = 0.95) -> Interval:
    """The central interval that holds a share `level` of the resampled statistic [samples]."""
    low, high = np.quantile(statistic, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_interval(values: Values, *, samples: int, seed: int, level: float = 0.95) -> Interval:
    """Interval of the mean of `values` [P], which hold one value per problem (itself a mean over samples)."""
    return percentiles(resampled_means(values[:, None], samples=samples, seed=seed)[:, 0], level=level)


def ratio_interval(
    numerator: Values, denominator: Values, *, samples: int, seed: int, level: float = 0.95
) -> Interval:
    """Interval of mean(numerator) / mean(denominator), both [P] over the same problems and the same draws."""
    means = resampled_means(np.stack([numerator, denominator], axis=1), samples=samples, seed=seed)
    return percentiles(means[:, 0] / means[:, 1], level=level)
