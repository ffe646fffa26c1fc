"""How good a reward model is, on episodes of problems that it was not trained on.

accuracy     share of targets on whose side of 1/2 the score is
brier        mean of (score - target)^2
ece          expected calibration error (`rl.evaluation.calibration`)
auc          probability that a right step has a higher score than a wrong one (ties half)
pairs        the same among the episodes of one problem, the share of pairs that it orders right: with 0.5 it
             teaches a group nothing
first_error  ProcessBench's metric of steps, with the threshold 1/2 (`rl.evaluation.step_f1`)
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from rl.evaluation.auc import auc
from rl.evaluation.bootstrap import Interval, ratio_interval
from rl.evaluation.calibration import expected_calibration_error, reliability
from rl.evaluation.step_f1 import Scored, first_below, step_f1, step_f1_intervals

HELD_OUT = "held_out.jsonl"
"""File of the scores, in the stage's folder."""
THRESHOLD = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredCall:
    """The targets of one call and the scores given to them."""

    problem: str
    targets: tuple[float, ...]
    scores: tuple[float, ...]


def read_held_out(path: Path) -> Iterator[ScoredCall]:
    """The calls of a file."""
    for text in path.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        yield ScoredCall(
            problem=line["problem"], targets=tuple(line["targets"]), scores=tuple(line["scores"])
        )


def report(calls: Sequence[ScoredCall]) -> dict[str, Any]:
    """The figures of the module's docstring; `intervals` of 95% over problems; None where there is nothing to
    take a figure of.
    """
    targets = [target for call in calls for target in call.targets]
    scores = [score for call in calls for score in call.scores]
    solutions = [
        Scored(problem=call.problem, label=first_below(call.targets, THRESHOLD), scores=call.scores)
        for call in calls
    ]
    judged = [each.judged(THRESHOLD) for each in solutions]
    found, intervals = step_f1(judged), step_f1_intervals(judged)
    squares = [(s - t) ** 2 for s, t in zip(scores, targets, strict=True)]
    return {
        "calls": len(calls),
        "targets": len(targets),
        "right": _mean(targets),
        "accuracy": _mean([float(hit) for call in calls for hit in hits(call)]),
        "brier": _mean(squares),
        "ece": expected_calibration_error(reliability(scores, targets)),
        "auc": auc(scores, targets),
        "pairs": pairs(calls),
        "first_error": {
            "f1": found.f1, "wrong": found.wrong, "right": found.right,
            "num_wrong": found.num_wrong, "num_right": found.num_right,
        },
        "intervals": {
            "accuracy": accuracy_interval(calls), "pairs": pairs_interval(calls),
            "first_error": intervals.f1,
        },
    }  # fmt: skip


def hits(call: ScoredCall) -> list[bool]:
    """[targets] whether the score is on its target's side of the threshold."""
    both = zip(call.scores, call.targets, strict=True)
    return [(score >= THRESHOLD) == (target >= THRESHOLD) for score, target in both]


def accuracy_interval(calls: Sequence[ScoredCall]) -> Interval | None:
    """Interval of the accuracy; a problem is drawn with all its calls."""
    rows = [
        (sum(sum(hits(call)) for call in held), sum(len(call.targets) for call in held))
        for held in by_problem(calls)
    ]
    if not rows:
        return None
    right, counts = np.array(rows, dtype=np.float64).T
    return ratio_interval(right, counts, samples=2_000, seed=0)


def pairs(calls: Sequence[ScoredCall]) -> float | None:
    """AUC within problems, over the last target of each call, weighted by the number of pairs: the share of
    pairs of a right and a wrong call that it orders right, ties half.
    """
    rows = _pair_rows(calls)
    return sum(won for won, _ in rows) / sum(count for _, count in rows) if rows else None


def pairs_interval(calls: Sequence[ScoredCall]) -> Interval | None:
    """Interval of `pairs`; a problem is drawn with all its calls."""
    rows = _pair_rows(calls)
    if not rows:
        return None
    won, counts = np.array(rows, dtype=np.float64).T
    return ratio_interval(won, counts, samples=2_000, seed=0)


def _pair_rows(calls: Sequence[ScoredCall]) -> list[tuple[float, int]]:
    """(pairs ordered right, pairs) of each problem that has any."""
    found: list[tuple[float, int]] = []
    for held in by_problem(calls):
        ends = [(call.scores[-1], call.targets[-1]) for call in held]
        right = sum(target >= THRESHOLD for _, target in ends)
        count = right * (len(ends) - right)
        if count:
            area = auc([score for score, _ in ends], [target for _, target in ends])
            assert area is not None
            found.append((count * area, count))
    return found


def by_problem(calls: Sequence[ScoredCall]) -> list[list[ScoredCall]]:
    """The calls of each problem."""
    ordered = sorted(calls, key=lambda call: call.problem)
    return [list(held) for _, held in groupby(ordered, key=lambda call: call.problem)]


def lines(name: str, found: Mapping[str, Any]) -> list[str]:
    """The report as text."""
    first = found["first_error"]
    interval, within = (_interval(found["intervals"][name]) for name in ("accuracy", "pairs"))
    return [
        f"{name}: {found['targets']} targets of {found['calls']} held-out calls, "
        f"{_text(found['right'])} of them right",
        f"{name}: accuracy {_text(found['accuracy'])}{interval}, AUC {_text(found['auc'])}, "
        f"within problems {_text(found['pairs'])}{within}, "
        f"Brier {_text(found['brier'])}, ECE {_text(found['ece'])}",
        f"{name}: first error F1 {_text(first['f1'])} "
        f"(found in {_text(first['wrong'])} of {first['num_wrong']} wrong calls, "
        f"none in {_text(first['right'])} of {first['num_right']} right ones)",
    ]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _interval(between: Interval | None) -> str:
    return "" if between is None else f" [{between[0]:.3f}, {between[1]:.3f}]"


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
