"""Labels on which several labellings agree, and labels of a file on the steps that they were made for.

Source of the filter: Qwen's lessons (arXiv 2501.07301): a solution is kept only where Monte Carlo and a judge
see the same first error; the labels are hard, and nothing is said of the steps behind the error.
"""

from collections.abc import Iterable, Mapping, Sequence

from data.steps.formats.row import RIGHT, WRONG, StepRow
from rl.scorers.label_file import LabelRow, with_labels

TextKey = tuple[str, tuple[str, ...]]
"""Prompt and steps, by which a row of a file is found again."""


def agreed(rows: Sequence[LabelRow]) -> LabelRow | None:
    """One row in place of several of the same call; None where one has no labels, or first errors differ."""
    errors = {row.step_row.first_error for row in rows}
    if not all(row.is_labelled for row in rows) or len(errors) > 1:
        return None
    (error,) = errors
    size = len(rows[0].steps)
    end = size if error < 0 else error
    labels = [RIGHT] * end + [WRONG] * (error >= 0) + [None] * (size - end - 1)
    outcomes = next((row.outcomes for row in rows if row.outcomes), ())
    return with_labels(rows[0], labels[:size], outcomes=outcomes)


def consensus(labellings: Sequence[Sequence[LabelRow]]) -> tuple[list[LabelRow], int]:
    """-> (rows on which all agree, in the order of the first labelling; number of rows that all have)."""
    others: list[Mapping[str, LabelRow]] = [{row.id: row for row in rows} for rows in labellings[1:]]
    shared = [row for row in labellings[0] if all(row.id in each for each in others)]
    found = [agreed([row, *(each[row.id] for each in others)]) for row in shared]
    return [row for row in found if row is not None], len(shared)


def labelled_by_file(rows: Sequence[LabelRow], given: Iterable[StepRow]) -> list[LabelRow]:
    """The rows for whose prompt and steps the file has labels, with those labels."""
    known = {_key(each.prompt, each.steps): each.labels for each in given}
    return [with_labels(row, known[key]) for row in rows if (key := _key(row.prompt, row.steps)) in known]


def _key(prompt: str, steps: Sequence[str]) -> TextKey:
    return " ".join(prompt.split()), tuple(" ".join(step.split()) for step in steps)
