"""Calls as training rows, with a loss weight for each sampled token. Pure Python, no tensors.

A row is one call: context, then output. Only sampled tokens that the protocol trains carry loss. Rows that
begin alike share their prefix in a forest (`data.forests.forest`).
"""

from dataclasses import dataclass
from typing import ClassVar

from data.episodes.trajectory import Call, Episode


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One call as a training row: C context tokens, then T sampled ones.

    Example: context 5 6 7, output 8 9 of which both are trained, token weight 0.25:
        ids [5 6 7 8 9]  first 3  weights [0.25 0.25]
    """

    label_offset: ClassVar[int] = 1
    """Position of a label's token minus that of its node: a label predicts the token behind its node."""

    ids: tuple[int, ...]
    """[C + T] context, then output."""
    first: int
    """C: position of the first sampled token; at least 1, since a prediction needs something in front."""
    weights: tuple[float, ...]
    """[T] loss weight of each output token; 0 where the protocol does not train it."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetRow(Row):
    """A call with a target at some of its tokens: what a reward model is to say of the text that ends there.

    Example: context 5 6 7, output 8 9; with token 9 a step ends, which is right:
        ids [5 6 7 8 9]  first 3  weights [0 1]  targets [0 1]
    """

    label_offset: ClassVar[int] = 0

    targets: tuple[float, ...]
    """[T] targets from 0 (wrong) to 1 (right), soft ones between; of tokens without weight any number."""


def call_row(episode: Episode, call: Call, *, weight: float = 1.0) -> Row:
    """The row of a call; `weight` is the loss weight of a trained token."""
    context = episode.context_ids(call)
    weights = (weight,) * call.num_trained + (0.0,) * (len(call.output) - call.num_trained)
    return Row(ids=context + call.output, first=len(context), weights=weights)
