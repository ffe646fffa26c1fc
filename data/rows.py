"""Calls as training rows, and rows packed side by side into bins. Pure Python, no tensors.

A row is one call: context, then output. Only sampled tokens that the protocol trains carry loss. (The
forest, which computes shared prefixes once, replaces rows in the learner; rows stay its reference.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

from data.trajectory import Call, Episode


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One call.

    Example: context 5 6 7, output 8 9 of which both are trained, advantage 0.5, token weight 0.25:
        ids [5 6 7 8 9]  first 3  weights [0.25 0.25]  logprobs [-0.1 -2.3]  advantage 0.5
    """

    ids: tuple[int, ...]
    """[C + T] context, then output."""
    first: int
    """C: position of the first sampled token."""
    weights: tuple[float, ...]
    """[T] loss weight of each output token; 0 where the protocol does not train it."""
    logprobs: tuple[float, ...]
    """[T] behaviour log-probabilities, or [] for a demonstration."""
    advantage: float = 1.0

    def __len__(self) -> int:
        return len(self.ids)


def call_row(episode: Episode, call: Call, *, weight: float = 1.0, advantage: float = 1.0) -> Row:
    """The row of a call; `weight` is the loss weight of a trained token."""
    weights = (weight,) * call.trained + (0.0,) * (len(call.output) - call.trained)
    context = episode.context_ids(call)
    return Row(
        ids=context + call.output,
        first=len(context),
        weights=weights,
        logprobs=call.logprobs,
        advantage=advantage,
    )


def pack_rows(rows: Sequence[Row], length: int) -> list[list[Row]]:
    """First-fit decreasing into bins of at most `length` tokens; a longer row gets a bin of its own.

    Deterministic, longest rows first: bins that are cut into batches in this order need little padding.
    """
    order = sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i))
    bins: list[list[Row]] = []
    free: list[int] = []
    open_from = 0
    for index in order:
        row = rows[index]
        for b in range(open_from, len(bins)):
            if free[b] >= len(row):
                bins[b].append(row)
                free[b] -= len(row)
                break
        else:
            bins.append([row])
            free.append(length - len(row))
        while open_from < len(bins) and free[open_from] < 2:
            open_from += 1
    return bins
