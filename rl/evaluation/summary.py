"""Figures of a set of outcomes: accuracy with an interval, cost, accuracy within a critical-path budget.

Each mean first averages over the samples of a problem, then over problems, so a problem counts once however
often it was sampled. Intervals resample problems (`rl.evaluation.bootstrap`).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from data.episodes.monitors import shares
from data.errors import BraidError, ConfigError
from rl.evaluation.bootstrap import Interval, Values, mean_interval, ratio_interval
from rl.evaluation.outcomes import Outcome, by_problem
from rl.evaluation.pass_at_k import pass_at_k, reported_k


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmMeasures:
    """Figures of one checkpoint. Shares are in [0, 1], lengths in tokens."""

    accuracy: float
    interval: Interval
    """95% bootstrap interval of the accuracy, over problems."""
    greedy_accuracy: float | None
    """None when greedy decoding was not evaluated."""
    total_tokens: float
    """Mean sampled tokens of an episode."""
    critical_tokens: float
    """Mean sampled tokens on an episode's longest path."""
    critical_p90: float
    """90th percentile of the critical tokens, over episodes."""
    threads: float
    """Mean number of threads opened beside the root."""
    accuracy_at_critical_budget: dict[str, float]
    """Share solved within each budget of critical-path tokens, by budget."""
    problems: int
    """Number of problems with a graded episode."""
    episodes: int
    """Number of episodes, graded or not."""
    ungraded: int
    """Number of episodes that could not be graded; no accuracy counts them."""
    pass_at_k: dict[str, float]
    """Mean pass@k over problems, by k; empty with one sample per problem."""
    activation: float
    """Share of episodes that fork."""
    wrong_claims: float
    """Share of graded episodes that gave a wrong answer."""
    unique_thread_share: float | None
    """Different threads over all threads; None when no thread was opened."""
    critical_seconds: float
    """Mean measured seconds on the path that takes longest."""
    violations: dict[str, float]
    """Share of episodes with at least one violation of each kind."""
    monitors: dict[str, float] | None
    """Shares that `data.episodes.monitors` defines, by the names of `metrics.jsonl`, over all episodes; None
    when a record has none.
    """
    regret: float | None = None
    """Mean regret of an episode's thought (rewards.process.progress); None where no answers were forced."""

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain JSON values; regret only where it was measured."""
        figures = asdict(self) | {"interval": list(self.interval)}
        return {name: value for name, value in figures.items() if name != "regret" or value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """A difference of accuracy on the same problems, paired by problem."""

    points: float
    """Difference in percentage points."""
    interval: Interval
    """95% bootstrap interval of `points`, over problems."""

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return {"points": self.points, "interval": list(self.interval)}


def problem_means(outcomes: Sequence[Outcome], value: Callable[[Outcome], float]) -> Values:
    """[P] mean of `value` over each problem's samples; problems in the order of their ids."""
    groups = by_problem(outcomes)
    return np.array([np.mean([value(item) for item in group]) for group in groups.values()], dtype=np.float64)


def graded(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Outcomes that could be graded. Raises BraidError if there are none: there is no accuracy to report."""
    kept = [outcome for outcome in outcomes if outcome.correct is not None]
    if not kept:
        reasons = Counter(outcome.reason or "no reason given" for outcome in outcomes).most_common(3)
        listed = "; ".join(f"{count} times: {reason}" for reason, count in reasons)
        raise BraidError(
            f"evaluation: none of {len(outcomes)} episodes could be graded, so there is no accuracy "
            f"({listed})\n  fix: check the task's verifier and start again; ungraded episodes are redone"
        )
    return kept


def accuracy_within(outcomes: Sequence[Outcome], budget: float) -> float:
    """Share solved with at most `budget` critical tokens."""
    solved = problem_means(outcomes, lambda item: item.correct is True and item.critical_tokens <= budget)
    return float(solved.mean())


def summarise(
    outcomes: Sequence[Outcome],
    *,
    critical_budgets: Sequence[int],
    bootstrap_samples: int,
    seed: int,
    greedy: Sequence[Outcome] = (),
) -> ArmMeasures:
    """The figures of one checkpoint; `greedy` are its outcomes at temperature 0.

    Raises BraidError if nothing could be graded.
    """
    scored = graded(outcomes)
    accuracy = problem_means(scored, lambda item: item.correct is True)
    opened = sum(item.threads for item in outcomes)
    kinds = sorted({kind for item in outcomes for kind in item.violations})

    def mean(value: Callable[[Outcome], float]) -> float:
        return float(problem_means(outcomes, value).mean())

    return ArmMeasures(
        accuracy=float(accuracy.mean()),
        interval=mean_interval(accuracy, samples=bootstrap_samples, seed=seed),
        greedy_accuracy=accuracy_within(graded(greedy), float("inf")) if greedy else None,
        total_tokens=mean(lambda item: item.total_tokens),
        critical_tokens=mean(lambda item: item.critical_tokens),
        critical_p90=float(np.quantile([item.critical_tokens for item in outcomes], 0.9)),
        threads=mean(lambda item: item.threads),
        accuracy_at_critical_budget={
            str(limit): accuracy_within(scored, limit) for limit in critical_budgets
        },
        problems=len(accuracy),
        episodes=len(outcomes),
        ungraded=len(outcomes) - len(scored),
        pass_at_k=mean_pass_at_k(scored),
        activation=mean(lambda item: item.forked),
        wrong_claims=float(problem_means(scored, lambda item: item.answered and not item.correct).mean()),
        unique_thread_share=sum(item.unique_threads for item in outcomes) / opened if opened else None,
        critical_seconds=mean(lambda item: item.critical_seconds),
        violations={kind: mean(partial(_violates, kind)) for kind in kinds},
        monitors=_monitors(outcomes),
        regret=_regret(outcomes),
    )


def _regret(outcomes: Sequence[Outcome]) -> float | None:
    told = [item for item in outcomes if item.regret is not None]
    return float(problem_means(told, lambda item: item.regret or 0.0).mean()) if told else None


def _monitors(outcomes: Sequence[Outcome]) -> dict[str, float] | None:
    observed = [item.observed for item in outcomes if item.observed is not None]
    return shares(observed) if len(observed) == len(outcomes) else None


def _violates(kind: str, outcome: Outcome) -> bool:
    return kind in outcome.violations


def mean_pass_at_k(scored: Sequence[Outcome]) -> dict[str, float]:
    """Mean pass@k over problems by k, for the powers of two that every problem has enough samples for."""
    groups = list(by_problem(scored).values())
    counts = [(len(group), sum(item.correct is True for item in group)) for group in groups]
    return {
        str(k): float(np.mean([pass_at_k(samples, correct, k) for samples, correct in counts]))
        for k in reported_k(min(samples for samples, _ in counts))
    }


def paired(before: Sequence[Outcome], after: Sequence[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """Both sides, restricted to problems that could be graded on both.

    Raises ConfigError if the two sides have different problems: their difference would mean nothing.
    """
    left, right = by_problem(before), by_problem(after)
    if left.keys() != right.keys():
        alone = sorted(left.keys() ^ right.keys())
        raise ConfigError(
            f"evaluation: the two sides share {len(left.keys() & right.keys())} problems and differ in "
            f"{len(alone)}, e.g. {alone[0]!r}; evaluate both on the same split, size and seed"
        )
    kept_before, kept_after = graded(before), graded(after)
    both = {item.problem_id for item in kept_before} & {item.problem_id for item in kept_after}
    if not both:
        raise ConfigError("evaluation: no problem could be graded on both sides, so they cannot be compared")
    return (
        [item for item in kept_before if item.problem_id in both],
        [item for item in kept_after if item.problem_id in both],
    )


def gain(before: Sequence[Outcome], after: Sequence[Outcome], *, bootstrap_samples: int, seed: int) -> Gain:
    """Accuracy after minus before, paired by problem. Both sides need the same problems (`paired`)."""
    first, second = (problem_means(side, lambda item: item.correct is True) for side in paired(before, after))
    points = 100 * (second - first)
    interval = mean_interval(points, samples=bootstrap_samples, seed=seed)
    return Gain(points=float(points.mean()), interval=interval)


def critical_ratio(
    outcomes: Sequence[Outcome], reference: Sequence[Outcome], *, bootstrap_samples: int, seed: int
) -> tuple[float, Interval] | None:
    """Mean critical-path tokens over the reference's, paired by problem, and its 95% interval.

    None where the reference, or a resample of it, has no tokens: there is no ratio.
    """
    sides = paired(reference, outcomes)
    below, above = (problem_means(side, lambda item: item.critical_tokens) for side in sides)
    if not below.all():
        return None
    interval = ratio_interval(above, below, samples=bootstrap_samples, seed=seed)
    return float(above.mean() / below.mean()), interval


def merge_seeds(runs: Mapping[int, Sequence[Outcome]]) -> list[Outcome]:
    """Runs of several training seeds as samples of the same problems: a summary is the mean over them.

    The interval of the merged accuracy is over problems, for these trained models; the spread between seeds
    is in their own figures. Raises ConfigError if seeds differ in problems or in numbers of samples.
    """
    merged: list[Outcome] = []
    first: tuple[int, dict[str, int]] | None = None
    for seed, run in runs.items():
        shape = {problem: len(group) for problem, group in by_problem(run).items()}
        first = first or (seed, shape)
        if shape != first[1]:
            raise ConfigError(
                f"evaluation: seeds {first[0]} and {seed} saw different problems or numbers of samples; "
                "use one test split for all seeds"
            )
        merged.extend(run)
    return merged
