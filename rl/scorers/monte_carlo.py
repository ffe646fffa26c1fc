"""Labels of steps by Monte Carlo: how often what is sampled behind a step ends with a right answer.

    value  share of the graded completions that are right (soft label)
    hard   1 when any of them is right, else 0

Source: Math-Shepherd (arXiv 2312.08935, hard and soft estimation). Binary search for the first step behind
which nothing is right any more: OmegaPRM (arXiv 2406.06592); it takes for granted that what is lost stays
lost.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from data.steps.step import NO_ERROR

Estimate = Literal["soft", "hard"]
Outcomes = tuple[bool, ...]
"""Whether each graded completion of a step is right, in the order in which they were numbered."""


def value(outcomes: Sequence[bool]) -> float | None:
    """Share of right completions; None of none."""
    return sum(outcomes) / len(outcomes) if outcomes else None


def label_of(outcomes: Sequence[bool], estimate: Estimate) -> float | None:
    """The label of a step by these completions; None of none."""
    share = value(outcomes)
    return share if share is None or estimate == "soft" else float(share > 0)


async def first_lost(count: int, probe: Callable[[int], Awaitable[float | None]]) -> int:
    """Index of the first of `count` steps behind which nothing is right, or NO_ERROR.

    `probe`: value of a step; None, where it has none, counts as not lost. At most ceil(log2(count + 1)) are
    asked for.
    """
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if await probe(middle) == 0:
            high = middle
        else:
            low = middle + 1
    return low if low < count else NO_ERROR


def searched_labels(
    count: int, lost: int, probed: Sequence[Outcomes | None], estimate: Estimate
) -> tuple[float | None, ...]:
    """[count] labels after a search that found the first lost step, or NO_ERROR.

    Steps in front of it are right, with their value where they were probed; it is wrong; of those behind it
    nothing is said.
    """
    end = count if lost == NO_ERROR else lost
    labels: list[float | None] = [
        label_of(outcomes or (), estimate) if outcomes else 1.0 for outcomes in probed[:end]
    ]
    return (*labels, *([0.0] if lost != NO_ERROR else []), *[None] * (count - end - (lost != NO_ERROR)))
