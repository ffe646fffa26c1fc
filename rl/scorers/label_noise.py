"""How far labels are from the truth, on tasks that know it.

agreement        share of steps whose label says what the truth says (a label below 1/2 says wrong)
false_positives  share of the wrong steps that are called right
false_negatives  share of the right steps that are called wrong
first_error      ProcessBench's metric (`rl.evaluation.step_f1`); a solution is the steps of one call

Of Monte-Carlo labels the same by number of completions: the completions of each step are dealt out to as
many sets of k as they fill; `any` calls a step right when one of k is right, `half` when half of them are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from data.steps.formats.row import WRONG_BELOW
from data.steps.step import NO_ERROR
from rl.evaluation.bootstrap import Interval, ratio_interval
from rl.evaluation.step_f1 import Judged, step_f1, step_f1_intervals
from rl.scorers.label_file import LabelRow
from rl.scorers.monte_carlo import label_of

CLAIMS = ("valid", "reachable")
COMPLETIONS = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of completions of which figures are given, as far as there are so many."""
Pair = tuple[bool, bool]
"""What the label of a step says, and what is true."""


def noise(rows: Sequence[LabelRow]) -> dict[str, Any] | None:
    """The figures of the module's docstring, by claim; None where the truth is not known."""
    known = [row for row in rows if row.truth is not None]
    if not known:
        return None
    found: dict[str, Any] = {}
    for claim in CLAIMS:
        by_count = {
            str(count): {"any": figures(any_of, claim), "half": figures(half_of, claim)}
            for count, any_of, half_of in _by_completions(known)
        }
        found[claim] = figures(known, claim) | {"by_completions": by_count}
    return found


def figures(rows: Sequence[LabelRow], claim: str) -> dict[str, Any]:
    """Shares with 95% intervals over problems; None where there is no step to take one of."""
    pairs: dict[str, list[Pair]] = {}
    for row in rows:
        pairs.setdefault(row.problem, []).extend(compared(row, claim))
    judged = [each for row in rows if (each := judgement(row, claim)) is not None]
    found, between = step_f1(judged), step_f1_intervals(judged)
    return {
        "steps": sum(map(len, pairs.values())),
        "agreement": _share(pairs, lambda said, true: (said == true, True)),
        "false_positives": _share(pairs, lambda said, true: (said and not true, not true)),
        "false_negatives": _share(pairs, lambda said, true: (true and not said, true)),
        "first_error": {"f1": found.f1, "wrong": found.wrong, "right": found.right, "interval": between.f1},
    }


def compared(row: LabelRow, claim: str) -> list[Pair]:
    """The steps that have both a label and a known truth."""
    assert row.truth is not None
    return [
        (label >= WRONG_BELOW, true)
        for label, true in zip(row.labels, row.truth[claim], strict=True)
        if label is not None and true is not None
    ]


def judgement(row: LabelRow, claim: str) -> Judged | None:
    """Where the first wrong step is and where the labels see it; None of a row without labels or truth."""
    assert row.truth is not None
    truth = row.truth[claim]
    if not row.is_labelled or all(true is None for true in truth):
        return None
    return Judged(
        problem=row.problem,
        label=next((place for place, true in enumerate(truth) if true is False), NO_ERROR),
        prediction=row.step_row.first_error,
    )


def noise_table(found: Mapping[str, Any]) -> list[str]:
    """Lines for the screen."""
    width = 18
    head = "".join(f"{name:>{width}}" for name in ("agreement", "false positives", "false negatives", "F1"))
    lines = [f"{'against the truth':<24}{head}"]
    for claim, all_of in found.items():
        lines.append(f"{claim:<24}" + _cells(all_of, width))
        for count, both in all_of["by_completions"].items():
            for rule, one in both.items():
                lines.append(f"{f'  {count} completions, {rule}':<24}" + _cells(one, width))
    return lines


def _cells(one: Mapping[str, Any], width: int) -> str:
    shares = [one[name] for name in ("agreement", "false_positives", "false_negatives")]
    shown = [(None, None) if each is None else (each["share"], each["interval"]) for each in shares]
    shown.append((one["first_error"]["f1"], one["first_error"]["interval"]))
    return "".join(f"{_cell(share, between):>{width}}" for share, between in shown)


def _cell(share: float | None, between: Interval | None) -> str:
    if share is None:
        return "-"
    return f"{share:.2f}" + ("" if between is None else f" [{between[0]:.2f}, {between[1]:.2f}]")


def _share(pairs: Mapping[str, Sequence[Pair]], counts: Any) -> dict[str, Any] | None:
    """`counts`: (said, true) -> (whether it is a hit, whether it counts at all)."""
    rows = []
    for of_problem in pairs.values():
        counted = [counts(said, true) for said, true in of_problem]
        total = sum(bool(counts) for _, counts in counted)
        if total:
            rows.append((sum(bool(hit) for hit, counts in counted if counts), total))
    if not rows:
        return None
    hits, totals = np.array(rows, dtype=np.float64).T
    between = ratio_interval(hits, totals, samples=2_000, seed=0)
    return {"share": float(hits.sum() / totals.sum()), "interval": between}


def _by_completions(rows: Sequence[LabelRow]) -> Iterator[tuple[int, list[LabelRow], list[LabelRow]]]:
    """(k, rows labelled by any of k, rows labelled by half of k), of rows whose labelled steps all have
    completions.
    """
    whole = [row for row in rows if row.outcomes and _all_completed(row)]
    most = max((len(each) for row in whole for each in row.outcomes if each is not None), default=0)
    for count in (each for each in COMPLETIONS if each <= most):
        sets = [(row, place) for row in whole for place in range(most // count)]
        yield (
            count,
            [_subset(row, place, count, "hard") for row, place in sets],
            [_subset(row, place, count, "soft") for row, place in sets],
        )


def _all_completed(row: LabelRow) -> bool:
    both = zip(row.labels, row.outcomes, strict=True)
    return all(label is None or outcomes is not None for label, outcomes in both)


def _subset(row: LabelRow, place: int, count: int, estimate: Any) -> LabelRow:
    part = slice(place * count, (place + 1) * count)
    labels = [None if each is None else label_of(each[part], estimate) for each in row.outcomes]
    return replace(row, labels=tuple(labels))
