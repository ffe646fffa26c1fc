"""Marks of a judge: how well its verdicts on one solution fit the labels. Pure functions, from 0 to 1.

    all          1 when the verdict on every labelled step is right (the filter of ThinkPRM, arXiv 2504.16828)
    first_error  1 when the first step that is called wrong is the first wrong one, or both say there is none
                 (ProcessBench, arXiv 2412.06559, one solution)
    share        share of the labelled steps with the right verdict
    f1           F1 of the steps called wrong; 1 where neither side calls any wrong
Steps without a label do not count. A labelled step without a verdict counts as one with the other verdict.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from data.tasks.judge.verdicts import Verdicts, first_error

Mark = Literal["all", "first_error", "share", "f1"]
Labels = Sequence[bool | None]
"""[S] whether each step is right; None where that is not known."""


def agreement(verdicts: Verdicts, labels: Labels) -> list[bool]:
    """Whether the verdict on each labelled step, in order, is its label."""
    both = zip(verdicts, labels, strict=True)
    return [said is label for said, label in both if label is not None]


def mark_all(verdicts: Verdicts, labels: Labels) -> float:
    """The mark `all` of the module's docstring."""
    return float(all(agreement(verdicts, labels)))


def mark_first_error(verdicts: Verdicts, labels: Labels) -> float:
    """The mark `first_error` of the module's docstring."""
    known = [None if label is None else said for said, label in zip(verdicts, labels, strict=True)]
    return float(first_error(known) == first_error(labels))


def mark_share(verdicts: Verdicts, labels: Labels) -> float:
    """The mark `share` of the module's docstring."""
    agreed = agreement(verdicts, labels)
    return sum(agreed) / len(agreed)


def mark_f1(verdicts: Verdicts, labels: Labels) -> float:
    """The mark `f1` of the module's docstring: 2 TP / (2 TP + FP + FN)."""
    known = [(said, label) for said, label in zip(verdicts, labels, strict=True) if label is not None]
    found = sum(said is False and label is False for said, label in known)
    differing = sum((said is False) != (label is False) for said, label in known)
    return 2 * found / (2 * found + differing) if found or differing else 1.0


MARKS: dict[Mark, Callable[[Verdicts, Labels], float]] = {
    "all": mark_all,
    "first_error": mark_first_error,
    "share": mark_share,
    "f1": mark_f1,
}
"""Name in a recipe -> the function."""
