"""Percentile bootstrap over problems.

Problems are the independent draws of an evaluation; the samples of one problem are not. So whole problems are
resampled with replacement and each keeps all its samples (cluster bootstrap). A figure that is a mean over
problems of a value per problem then only needs the vector of those values.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3 (percentile interval).
"""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Interval = tuple[float, float]
CHUNK = 1 << 20
"""Indices drawn at once: bounds memory (8 MB) whatever the number of problems."""


def resampled_means(values: Values, *, samples: int, seed: int) -> Values:
    """[samples, C] means of `values` [P, C] over problems drawn with replacement; columns share the draws."""
    problems = len(values)
    assert problems > 0 and samples > 0 and values.ndim == 2, "needs problems [P, C] and a resample"
    generator = np.random.default_rng(seed)
    rows = max(1, CHUNK // problems)
    parts = []
    for start in range(0, samples, rows):
        drawn = generator.integers(problems, size=(min(rows, samples - start), problems))
        parts.append(values[drawn].mean(axis=1))
    return np.concatenate(parts)


def percentiles(statistic: Values, *, level: float = 0.95) -> Interval:
    """The central interval that holds `level` of the resampled statistic [samples]."""
    low, high = np.quantile(statistic, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_interval(values: Values, *, samples: int, seed: int, level: float = 0.95) -> Interval:
    """Interval of the mean of `values` [P], one value (itself a mean over samples) for each problem."""
    return percentiles(resampled_means(values[:, None], samples=samples, seed=seed)[:, 0], level=level)


def ratio_interval(
    numerator: Values, denominator: Values, *, samples: int, seed: int, level: float = 0.95
) -> Interval:
    """Interval of mean(numerator) / mean(denominator) over the same problems [P]; both see the same draws."""
    means = resampled_means(np.stack([numerator, denominator], axis=1), samples=samples, seed=seed)
    return percentiles(means[:, 0] / means[:, 1], level=level)
