"""The step metric of ProcessBench (arXiv 2412.06559): is the first wrong step found, and is none found
where there is none?

    accuracy on wrong solutions    share whose first error is found exactly
    accuracy on right solutions    share in which no error is found
    F1                             their harmonic mean, 2 a b / (a + b); 0 when both are 0
A scalar score finds the first step whose score is below a threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.steps.step import NO_ERROR
from rl.evaluation.bootstrap import Interval, Values, percentiles, resampled_means


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """One solution: where its first error is, and where it was found."""

    problem: str
    """Id of the problem; several solutions of one problem are not independent."""
    label: int
    """Index of the first wrong step, or NO_ERROR."""
    prediction: int
    """Index of the step that was called wrong first, or NO_ERROR."""

    @property
    def hit(self) -> bool:
        """Whether the prediction is exact."""
        return self.label == self.prediction


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """One solution with a score for each step."""

    problem: str
    label: int
    scores: tuple[float, ...]

    def judged(self, threshold: float) -> Judged:
        """The judgement with this threshold."""
        return Judged(problem=self.problem, label=self.label, prediction=first_below(self.scores, threshold))


@dataclass(frozen=True, kw_only=True, slots=True)
class StepF1:
    """The metric on a set of solutions. A share is None when there is no solution to take it of."""

    num_wrong: int
    num_right: int
    wrong: float | None
    """Accuracy on solutions with an error."""
    right: float | None
    """Accuracy on solutions without one."""

    @property
    def f1(self) -> float | None:
        """Harmonic mean of both accuracies; None when one of them is missing."""
        return None if self.wrong is None or self.right is None else harmonic(self.wrong, self.right)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepF1Intervals:
    """Intervals of the metric; None where it is None."""

    wrong: Interval | None
    right: Interval | None
    f1: Interval | None


def harmonic(a: float, b: float) -> float:
    """2 a b / (a + b); 0 when both are 0."""
    return 2 * a * b / (a + b) if a + b > 0 else 0.0


def first_below(scores: Sequence[float], threshold: float) -> int:
    """Index of the first score below the threshold, or NO_ERROR."""
    return next((place for place, score in enumerate(scores) if score < threshold), NO_ERROR)


def step_f1(judged: Sequence[Judged]) -> StepF1:
    """The metric on these solutions."""
    wrong = [each.hit for each in judged if each.label != NO_ERROR]
    right = [each.hit for each in judged if each.label == NO_ERROR]
    return StepF1(
        num_wrong=len(wrong),
        num_right=len(right),
        wrong=sum(wrong) / len(wrong) if wrong else None,
        right=sum(right) / len(right) if right else None,
    )


def step_f1_intervals(
    judged: Sequence[Judged], *, samples: int = 2_000, seed: int = 0, level: float = 0.95
) -> StepF1Intervals:
    """Percentile bootstrap over problems; wrong and right solutions are resampled apart, since each accuracy
    is of its own set. A problem is drawn with all its solutions.
    """
    means = [
        _resampled([each for each in judged if (each.label == NO_ERROR) == right], samples, seed + right)
        for right in (False, True)
    ]
    wrong, right = means
    both = None
    if wrong is not None and right is not None:
        total = wrong + right
        both = np.divide(2 * wrong * right, total, out=np.zeros_like(total), where=total > 0)
    found = [None if each is None else percentiles(each, level=level) for each in (wrong, right, both)]
    return StepF1Intervals(wrong=found[0], right=found[1], f1=found[2])


def _resampled(judged: Sequence[Judged], samples: int, seed: int) -> Values | None:
    """[samples] accuracies; None of no solutions."""
    hits: dict[str, list[bool]] = {}
    for each in judged:
        hits.setdefault(each.problem, []).append(each.hit)
    if not hits:
        return None
    values = np.array([[sum(each), len(each)] for each in hits.values()], dtype=np.float64)
    means = resampled_means(values, samples=samples, seed=seed)
    return means[:, 0] / means[:, 1]


def sweep(
    solutions: Sequence[Scored], thresholds: Sequence[float] | None = None
) -> list[tuple[float, StepF1]]:
    """The metric at each threshold; by default at every one that makes a difference.

    A step is wrong when its score is *below* the threshold, so these are the distinct scores, and one more
    above all of them.
    """
    if thresholds is None:
        distinct = sorted({score for each in solutions for score in each.scores})
        thresholds = [*distinct, np.nextafter(distinct[-1], np.inf).item()] if distinct else []
    return [(at, step_f1([each.judged(at) for each in solutions])) for at in thresholds]


def best_threshold(swept: Sequence[tuple[float, StepF1]]) -> tuple[float, StepF1]:
    """The threshold with the largest F1, the lowest of several. To be chosen on other solutions than those
    that are reported.

    Raises:
        ValueError: no threshold has an F1, since there are no wrong or no right solutions.
    """
    known = [(metric.f1, -at, (at, metric)) for at, metric in swept if metric.f1 is not None]
    if not known:
        raise ValueError("an F1 takes solutions with an error and solutions without one")
    return max(known, key=lambda each: each[:2])[2]
