"""Scored groups as training rows, and their labels as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch

from data.episodes.trajectory import Call, Episode
from data.forests.forest import Forest
from data.forests.rows import Row, call_row


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyRow(Row):
    """A call with the policy loss's inputs for each of its T output tokens."""

    logprobs: tuple[float, ...]
    """[T] behaviour log-probabilities, as recorded at the engine."""
    versions: tuple[int, ...]
    """[T] version of the weights that sampled each token."""
    advantages: tuple[float, ...]
    """[T] advantage of each output token."""
    returns: tuple[float, ...] = ()
    """[T] targets of the critic; [] without one."""
    values: tuple[float, ...] = ()
    """[T] the critic's values when the advantages were made; [] without one."""
    value_weights: tuple[float, ...] = ()
    """[T] weights in the critic's loss; [] where they are those of the policy's."""
    sequence: int
    """Index of its episode in the update, from 0."""


def policy_row(
    episode: Episode,
    call: Call,
    *,
    weight: float,
    advantages: Sequence[float],
    sequence: int,
    returns: Sequence[float] = (),
    values: Sequence[float] = (),
) -> PolicyRow:
    """The row of a call; `advantages`, `returns` and `values` are [trained]; untrained tokens get 0."""
    row = call_row(episode, call, weight=weight)
    versions = [span.version for span in call.versions for _ in range(span.start, span.stop)]
    untrained = (0.0,) * (len(call.output) - call.num_trained)
    return PolicyRow(
        ids=row.ids,
        first=row.first,
        weights=row.weights,
        logprobs=call.logprobs,
        versions=tuple(versions),
        advantages=(*advantages, *untrained),
        returns=(*returns, *untrained) if returns else (),
        values=(*values, *untrained) if values else (),
        sequence=sequence,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelTensors:
    """[L] one entry for each label of a forest, in its order."""

    weights: torch.Tensor
    """Weight in the loss, denominators included."""
    behaviour: torch.Tensor
    """Log-probability at which the token was sampled."""
    versions: torch.Tensor
    """int64: version of the weights that sampled the token."""
    advantages: torch.Tensor
    returns: torch.Tensor
    """Targets of the critic; 0 without one."""
    values: torch.Tensor
    """The critic's values when the advantages were computed; 0 without one."""
    value_weights: torch.Tensor
    """Weight in the critic's loss, denominators included."""
    sequences: torch.Tensor
    """int64: index of the episode in the update."""

    def to(self, device: torch.device) -> Self:
        """The same labels on another device."""
        return type(self)(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def label_tensors(rows: Sequence[PolicyRow], forest: Forest) -> LabelTensors:
    """The labels of the forest that was built from these rows."""
    places = list(zip(forest.labels.rows, forest.labels.outputs, strict=True))

    def gather(name: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        given = [getattr(row, name) for row in rows]
        return torch.tensor([given[row][place] if given[row] else 0 for row, place in places], dtype=dtype)

    own = any(row.value_weights for row in rows)
    return LabelTensors(
        weights=gather("weights"),
        behaviour=gather("logprobs"),
        versions=gather("versions", torch.int64),
        advantages=gather("advantages"),
        returns=gather("returns"),
        values=gather("values"),
        value_weights=gather("value_weights" if own else "weights"),
        sequences=torch.tensor([rows[row].sequence for row, _ in places], dtype=torch.int64),
    )
