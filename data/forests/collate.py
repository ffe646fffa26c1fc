"""A forest as tensors. The only file of this package that imports torch."""

from dataclasses import dataclass, fields
from typing import Self

import torch

from data.forests.forest import Forest


@dataclass(frozen=True, kw_only=True, slots=True)
class ForestBatch:
    """Tensors of a forest with T tokens and L labels. Weights and advantages of labels are not part of it."""

    ids: torch.Tensor
    """[T] int64 token ids."""
    positions: torch.Tensor
    """[T] int64 depths, 0 at a root."""
    parents: torch.Tensor
    """[T] int64 index of the token in front; -1 at a root."""
    end: torch.Tensor
    """[T] int64: query q attends to key k when k <= q and end[k] > q."""
    nodes: torch.Tensor
    """[L] int64: index of the token that predicts a label."""
    targets: torch.Tensor
    """[L] int64: the token id that is predicted there."""

    def to(self, device: torch.device | str) -> Self:
        """The same batch on another device."""
        return type(self)(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def collate(forest: Forest) -> ForestBatch:
    """The tensors of a forest, on the CPU."""
    return ForestBatch(
        ids=torch.tensor(forest.ids, dtype=torch.long),
        positions=torch.tensor(forest.positions, dtype=torch.long),
        parents=torch.tensor(forest.parents, dtype=torch.long),
        end=torch.tensor(forest.end, dtype=torch.long),
        nodes=torch.tensor(forest.labels.nodes, dtype=torch.long),
        targets=torch.tensor(forest.labels.targets, dtype=torch.long),
    )
