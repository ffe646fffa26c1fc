"""How many steps are right, wrong, soft or without a label, and where the first errors are."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from data.steps.formats.row import RIGHT, WRONG, StepRow

_SHOWN = 6
"""Places of first errors that a table shows one by one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCounts:
    """Counts of a set of solutions."""

    rows: int
    steps: int
    right: int
    wrong: int
    soft: int
    """Labels that are neither 0 nor 1."""
    unlabelled: int
    cut_off: int
    """Rows whose last step a limit ended."""
    first_errors: Counter[int]
    """Index of the first wrong step -> rows; -1: labelled rows without a wrong step."""
    unlabelled_rows: int
    """Rows without any label."""


def count_steps(rows: Sequence[StepRow]) -> StepCounts:
    """The counts of these solutions."""
    labels = [label for row in rows for label in row.labels]
    kinds = Counter(
        "none" if label is None else "hard" if label in (RIGHT, WRONG) else "soft" for label in labels
    )
    return StepCounts(
        rows=len(rows),
        steps=len(labels),
        right=labels.count(RIGHT),
        wrong=labels.count(WRONG),
        soft=kinds["soft"],
        unlabelled=kinds["none"],
        cut_off=sum(row.cut_off for row in rows),
        first_errors=Counter(row.first_error for row in rows if row.is_labelled),
        unlabelled_rows=sum(not row.is_labelled for row in rows),
    )


def counts_table(counts: StepCounts) -> list[str]:
    """Lines for the screen."""
    labels = f"{counts.right} right, {counts.wrong} wrong"
    labels += f", {counts.soft} soft" if counts.soft else ""
    labels += f", {counts.unlabelled} without a label"
    errors = {place: count for place, count in sorted(counts.first_errors.items()) if place >= 0}
    shown = [f"step {place + 1}: {count}" for place, count in errors.items() if place < _SHOWN]
    later = sum(count for place, count in errors.items() if place >= _SHOWN)
    shown += [f"later: {later}"] if later else []
    cut = f", {counts.cut_off} cut off in their last step" if counts.cut_off else ""
    none = f", {counts.unlabelled_rows} without a label" if counts.unlabelled_rows else ""
    return [
        f"rows          {counts.rows}{cut}",
        f"steps         {counts.steps}: {labels}",
        f"first error   none: {counts.first_errors[-1]}{''.join(f', {each}' for each in shown)}{none}",
    ]
