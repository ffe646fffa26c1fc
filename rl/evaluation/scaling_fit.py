"""ScaleRL's fit: held-out reward as a sigmoid of compute, fitted on the first half and judged on the second.

    R(C) = R_0 + (A - R_0) / (1 + (C_mid / C)^B)
A is the asymptote, B the efficiency, C_mid the compute of half the gain. Source: Khatri et al., The Art of
Scaling Reinforcement Learning Compute for LLMs (arXiv 2510.13786).

For given B and C_mid the best A and R_0 are a linear least-squares problem, so only two numbers are searched:
on a grid, which is then made finer around the best place. No start value and no chance is involved.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rl.evaluation.bootstrap import Values

LEAST_POINTS = 4
"""Points of the fitted half; the sigmoid has four numbers."""
EXPONENTS = 0.2, 8.0
"""Smallest and largest B that is tried."""
REACH = 16.0
"""C_mid is looked for from the smallest compute over this to the largest times this."""
GRID, ROUNDS = 33, 6
"""Grid points on each axis, and number of grids, each a quarter as wide as the one before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sigmoid:
    """A saturating curve of reward over compute."""

    start: float
    """R_0, reward without compute."""
    asymptote: float
    """A, reward that no compute exceeds."""
    midpoint: float
    """C_mid, compute at which half of the gain is reached, in the unit of the points."""
    exponent: float
    """B, how steep it is."""

    def at(self, compute: float) -> float:
        """The reward at some compute; R_0 at none."""
        return (
            float(_values(np.array([compute]), self.midpoint, self.exponent)[0])
            * (self.asymptote - self.start)
            + self.start
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalingFit:
    """A fit of the first half of a run, and how it foretells the second."""

    curve: Sigmoid
    """Fitted on the first half."""
    whole: Sigmoid
    """Fitted on all points: what to expect of more compute."""
    fitted: int
    """Points of the first half."""
    judged: int
    """Points of the second half."""
    error_fitted: float
    """Root mean squared error on the first half, in units of the reward."""
    error_judged: float
    """The same on the second half, which the fit has not seen."""
    error_constant: float
    """The same of the plainest forecast, that the last fitted reward stays: a fit that is no better than
    this foretells nothing.
    """
    compute: tuple[float, ...]
    """[N] compute of all points, ascending."""
    reward: tuple[float, ...]
    """[N] held-out reward at these points."""


def fit_sigmoid(compute: Sequence[float], reward: Sequence[float]) -> Sigmoid:
    """The sigmoid with the least squared error. Points [N >= 4] with compute >= 0, in any order.

    Raises ValueError for fewer points, or when no compute is above 0.
    """
    x, y = np.asarray(compute, dtype=np.float64), np.asarray(reward, dtype=np.float64)
    if len(x) != len(y) or len(x) < LEAST_POINTS or not (x > 0).any():
        raise ValueError(f"a sigmoid takes at least {LEAST_POINTS} points, some with compute above 0")
    seen = np.log(x[x > 0])
    low = np.array([seen.min() - np.log(REACH), np.log(EXPONENTS[0])])
    high = np.array([seen.max() + np.log(REACH), np.log(EXPONENTS[1])])
    least, span = low, high - low
    best = np.inf, 0.0, 0.0
    for _ in range(ROUNDS):
        middles = np.linspace(least[0], least[0] + span[0], GRID)
        exponents = np.linspace(least[1], least[1] + span[1], GRID)
        pairs = np.stack(np.meshgrid(middles, exponents, indexing="ij"), axis=-1).reshape(-1, 2)
        errors, _ = _linear(_values(x, *np.exp(pairs.T[:, :, None])), y)
        place = int(np.argmin(errors))
        if errors[place] < best[0]:
            best = float(errors[place]), float(pairs[place, 0]), float(pairs[place, 1])
        span = span / 4
        least = np.clip(np.array(best[1:]) - span / 2, low, high - span)
    midpoint, exponent = (float(np.exp(value)) for value in best[1:])
    _, line = _linear(_values(x, midpoint, exponent)[None], y)
    start, gain = (float(value) for value in line[0])
    return Sigmoid(start=start, asymptote=start + gain, midpoint=midpoint, exponent=exponent)


def judge(compute: Sequence[float], reward: Sequence[float]) -> ScalingFit | None:
    """Fit the first half of the points (by compute, the odd one included) and judge it on the second.

    None where the half has fewer than 4 points: there is nothing to fit.
    """
    order = np.argsort(compute, kind="stable")
    x = [float(compute[index]) for index in order]
    y = [float(reward[index]) for index in order]
    half = (len(x) + 1) // 2
    if half < LEAST_POINTS or x[half - 1] <= 0:
        return None
    curve = fit_sigmoid(x[:half], y[:half])
    later = np.array(y[half:])
    return ScalingFit(
        curve=curve,
        whole=fit_sigmoid(x, y),
        fitted=half,
        judged=len(later),
        error_fitted=_rms([curve.at(at) for at in x[:half]] - np.array(y[:half])),
        error_judged=_rms([curve.at(at) for at in x[half:]] - later),
        error_constant=_rms(y[half - 1] - later),
        compute=tuple(x),
        reward=tuple(y),
    )


def scaling_of(
    records: Iterable[Mapping[str, Any]], *, reward: str = "validation/accuracy"
) -> ScalingFit | None:
    """The fit of one rl stage, from its records of `metrics.jsonl`; compute is counted in training steps.

    None where fewer than four validations lie in the first half.
    """
    points = [(float(record["step"]), float(record[reward])) for record in records if reward in record]
    return judge([step for step, _ in points], [value for _, value in points])


def _values(compute: Values, midpoint: float | Values, exponent: float | Values) -> Values:
    """[..., N] 1 / (1 + (C_mid / C)^B), in a form without overflow; 0 where there is no compute."""
    with np.errstate(divide="ignore"):
        values: Values = np.exp(-np.logaddexp(0.0, exponent * (np.log(midpoint) - np.log(compute))))
    return values


def _linear(values: Values, reward: Values) -> tuple[Values, Values]:
    """-> ([P] squared error, [P, 2] R_0 and A - R_0) of the best line for each of P curves [P, N]."""
    means = values.mean(axis=1)
    centred = values - means[:, None]
    spread = (centred**2).sum(axis=1)
    # A curve that is flat over all points explains nothing.
    gain = np.where(spread < 1e-18, 0.0, centred @ reward / np.maximum(spread, 1e-18))
    start = reward.mean() - gain * means
    rest = reward - start[:, None] - gain[:, None] * values
    return (rest**2).sum(axis=1), np.stack([start, gain], axis=1)


def _rms(errors: Values) -> float:
    return float(np.sqrt(np.mean(errors**2)))
