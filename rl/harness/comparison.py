"""The document of an evaluation: figures at k, all points, and each against majority at equal cost."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rl.evaluation.bootstrap import Interval, Values, mean_interval
from rl.evaluation.equal_cost import Difference, against
from rl.evaluation.g_pass_at_k import g_pass_at_k, mean_g_pass_at_k
from rl.evaluation.maj_at_k import maj_at_k
from rl.evaluation.pass_at_k import pass_at_k
from rl.evaluation.strategies.points import REFERENCE, Point, Pools, widths
from rl.evaluation.strategies.sample import COSTS, Sample

TAU = 0.75
"""Share of right samples that G-Pass@k asks for; mG-Pass@k is the mean over shares."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A mean over problems with its 95% bootstrap interval over problems."""

    value: float
    interval: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """One point of the table."""

    point: Point
    accuracy: Figure
    differences: dict[str, Difference | None]
    """Against majority at the same mean cost, by cost; None where majority was not measured at that cost."""


def figures_at_k(pools: Pools, *, resamples: int, seed: int = 0) -> dict[str, Figure]:
    """avg@n, pass@k, maj@k, G-Pass@k and mG-Pass@k for k = 1, 2, 4 ... up to the samples of a problem."""
    ordered = [pools[problem] for problem in sorted(pools)]
    samples = len(ordered[0])
    right = [sum(sample.correct for sample in pool) for pool in ordered]
    found: dict[str, list[float]] = {f"avg@{samples}": [count / samples for count in right]}
    for k in widths(samples)[1:]:
        found[f"pass@{k}"] = [pass_at_k(samples, count, k) for count in right]
        found[f"maj@{k}"] = [_maj(pool, k) for pool in ordered]
        found[f"g-pass@{k} ({TAU:g})"] = [g_pass_at_k(samples, count, k, TAU) for count in right]
        found[f"mg-pass@{k}"] = [mean_g_pass_at_k(samples, count, k) for count in right]
    return {name: _figure(np.array(values), resamples, seed) for name, values in found.items()}


def compare(points: Sequence[Point], *, resamples: int, seed: int = 0) -> list[Compared]:
    """Every point against majority at the point's own mean cost, on each axis of cost."""
    reference = [each for each in points if each.strategy == REFERENCE]
    rows = []
    for each in points:
        differences: dict[str, Difference | None] = {}
        for cost in COSTS:
            if cost in each.costs and reference and each.strategy != REFERENCE:
                differences[cost] = against(
                    each.at(cost), [other.at(cost) for other in reference], samples=resamples, seed=seed
                )
        rows.append(
            Compared(point=each, accuracy=_figure(each.correct, resamples, seed), differences=differences)
        )
    return rows


def document(rows: Sequence[Compared], at_k: Mapping[str, Figure], **further: Any) -> dict[str, Any]:
    """Everything as plain JSON values; `further` keys go in front."""
    return {
        **further,
        "at_k": {name: {"value": each.value, "interval": list(each.interval)} for name, each in at_k.items()},
        "points": [
            {
                "strategy": row.point.strategy,
                "setting": row.point.setting,
                "accuracy": row.accuracy.value,
                "interval": list(row.accuracy.interval),
                **{cost: float(values.mean()) for cost, values in row.point.costs.items()},
                f"against_{REFERENCE}": {
                    cost: None if each is None else {**asdict(each), "verdict": each.verdict}
                    for cost, each in row.differences.items()
                },
            }
            for row in rows
        ],
    }


def _maj(pool: Sequence[Sample], k: int) -> float:
    # A verifier may take one spelling and not another: the first that was judged counts for its class.
    judged: dict[Hashable, bool] = {}
    for sample in pool:
        if sample.answer is not None:
            judged.setdefault(sample.answer, sample.correct)
    return maj_at_k([sample.answer for sample in pool], judged, k)


def _figure(values: Values, resamples: int, seed: int) -> Figure:
    return Figure(value=float(values.mean()), interval=mean_interval(values, samples=resamples, seed=seed))
