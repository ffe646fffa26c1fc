"""What a judge is asked: one solution, its steps numbered, and what to write of them.

The only place of this text: a judge is trained, labels and scores with the same.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from data.params import Params
from data.tasks.judge.verdicts import Until, written

MARKER = "Verdicts:"
"""What stands in front of a judge's verdicts where its protocol says nothing else."""
Words = Literal["none", "critique", "principles"]


class JudgeFormat(Params):
    """Format of a judge's question and answer."""

    words: Words = "critique"
    """Words before the verdicts. none: none, the verdicts alone. critique: every step is checked in words.
    principles: first the principles by which such a solution is judged, then the check (SPCT, arXiv
    2504.02495).
    """
    until: Until = "first_error"
    """Steps that are judged. first_error: up to the first wrong one, as most labels go. all: every one by
    itself.
    """
    most_steps: int = Field(default=64, ge=1, le=10_000)
    """Solutions of more steps are neither learned from nor judged."""


_TOLD: dict[Words, str] = {
    "none": "Say whether each step is right or wrong, and nothing else.",
    "critique": (
        "Check one step after the other: work out what it should say, compare, and name what is wrong with "
        "it, if anything."
    ),
    "principles": (
        "First write the principles by which the steps of such a solution should be judged, each with a "
        "weight, the most important one first. Then check one step after the other against them."
    ),
}
_UNTIL: dict[Until, str] = {
    "first_error": "End with the first wrong step: nothing is asked of those behind it.",
    "all": "Judge every step by itself: a mistake in front of it does not make it wrong.",
}


def question(format: JudgeFormat, problem: str, context: str, steps: Sequence[str]) -> str:
    """The text of the question.

    Args:
        format: what is to be written.
        problem: text of the problem that the solution solves.
        context: what its writer had read besides, such as results of other threads; "" for nothing.
        steps: the solution, [S] texts.
    """
    parts = ["Problem:", problem, ""]
    if context:
        parts += ["What the writer of the solution has read:", context, ""]
    parts += ["Solution:"]
    parts += [f"Step {number}: {step}" for number, step in enumerate(steps, 1)]
    example = written((True, True, False) if len(steps) > 2 else (True, False)[: len(steps)])
    parts += [
        "", _TOLD[format.words], _UNTIL[format.until],
        f"The final answer is the list of verdicts, as in: {example}.",
    ]  # fmt: skip
    return "\n".join(parts)
