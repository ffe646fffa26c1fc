"""The forests of one update, each with its labels and their slice of the update's labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from data.forests.collate import ForestBatch, collate
from data.forests.forest import Forest, build_forest
from data.forests.split import split_rows
from rl.learner.policy_rows import LabelTensors, PolicyRow, label_tensors


@dataclass(kw_only=True, slots=True)
class ForestPart:
    """One forest of an update."""

    forest: Forest
    batch: ForestBatch
    label_tensors: LabelTensors
    label_slice: slice
    """Its labels among the L labels of the update."""
    recomputed: torch.Tensor | None = None
    """[labels of this forest] log-probabilities when the step began, where the algorithm needs them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SequenceTerms:
    """Factors of whole sequences, [L] over the labels of all forests of an update."""

    sequence_ratio: torch.Tensor | None
    """Mean log(current / proximal) of the label's sequence, where the loss needs it."""
    corrections: torch.Tensor
    """Product of the algorithm's corrections."""


def forest_parts(rows: Sequence[PolicyRow], forest_tokens: int, device: torch.device) -> list[ForestPart]:
    """Split the rows of an update into forests of at most `forest_tokens`; [] without rows."""
    parts, start = [], 0
    for members in split_rows(rows, forest_tokens):
        forest = build_forest(members)
        stop = start + len(forest.labels.nodes)
        parts.append(
            ForestPart(
                forest=forest,
                batch=collate(forest).to(device),
                label_tensors=label_tensors(members, forest).to(device),
                label_slice=slice(start, stop),
            )
        )
        start = stop
    return parts
