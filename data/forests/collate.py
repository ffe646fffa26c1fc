"""A forest as tensors. The only file of this package that imports torch."""

from dataclasses import dataclass, fields
from typing import Self

import torch

from data.forests.forest import Forest


@dataclass(frozen=True, kw_only=True, slots=True)
class ForestBatch:
    """T tokens, L labels. What a label is worth (weight, advantage, ...) is the loss's business."""

    ids: torch.Tensor
    """[T] int64."""
    positions: torch.Tensor
    """[T] int64."""
    parents: torch.Tensor
    """[T] int64; -1 at a root."""
    end: torch.Tensor
    """[T] int64: query q attends to key k when k <= q and end[k] > q."""
    nodes: torch.Tensor
    """[L] int64: where a label is predicted."""
    targets: torch.Tensor
    """[L] int64: what is predicted there."""

    def to(self, device: torch.device | str) -> Self:
        """The same batch on another device."""
        return type(self)(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def collate(forest: Forest) -> ForestBatch:
    """Its tensors."""
    return ForestBatch(
        ids=torch.tensor(forest.ids, dtype=torch.long),
        positions=torch.tensor(forest.positions, dtype=torch.long),
        parents=torch.tensor(forest.parents, dtype=torch.long),
        end=torch.tensor(forest.end, dtype=torch.long),
        nodes=torch.tensor(forest.labels.nodes, dtype=torch.long),
        targets=torch.tensor(forest.labels.targets, dtype=torch.long),
    )
