"""Bins of rows as tensors. The only file of this package that imports torch.

Shapes: B bins, L tokens of a bin.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch

from data.rows import Row


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedBatch:
    """Rows side by side; a token attends to the earlier tokens of its own row only.

    `weights`, `logprobs` and `advantages` at position t belong to the token at t (not to the one it
    predicts).
    """

    ids: torch.Tensor
    """[B, L] int64."""
    positions: torch.Tensor
    """[B, L] int64, counted from 0 in each row."""
    segments: torch.Tensor
    """[B, L] int64: which row of its bin a token belongs to; padding has a segment of its own."""
    weights: torch.Tensor
    """[B, L] float32: loss weight; 0 for contexts, padding and untrained tokens."""
    logprobs: torch.Tensor
    """[B, L] float32: behaviour log-probability of trained tokens, else 0."""
    advantages: torch.Tensor
    """[B, L] float32: the advantage of the token's call."""

    def attention_mask(self) -> torch.Tensor:
        """[B, 1, L, L] bool: True where query (dim 2) may see key (dim 3)."""
        length = self.ids.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=self.ids.device).tril()
        same = self.segments[:, :, None] == self.segments[:, None, :]
        return (same & causal)[:, None]

    def to(self, device: torch.device) -> "PackedBatch":
        """The same batch on another device."""
        return PackedBatch(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def collate(bins: Sequence[Sequence[Row]], *, pad: int, length: int | None = None) -> PackedBatch:
    """Tensors of the given bins, as long as the longest of them (or exactly `length`)."""
    size = length or max(sum(len(row) for row in rows) for rows in bins)
    shape = (len(bins), size)
    ids = torch.full(shape, pad, dtype=torch.long)
    positions = torch.arange(size).repeat(len(bins), 1)
    segments = torch.full(shape, -1, dtype=torch.long)
    weights, logprobs, advantages = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape)
    for b, rows in enumerate(bins):
        start = 0
        for segment, row in enumerate(rows):
            stop, sampled = start + len(row), start + row.first
            ids[b, start:stop] = torch.tensor(row.ids)
            positions[b, start:stop] = torch.arange(len(row))
            segments[b, start:stop] = segment
            weights[b, sampled:stop] = torch.tensor(row.weights, dtype=torch.float32)
            if row.logprobs:
                logprobs[b, sampled:stop] = torch.tensor(row.logprobs, dtype=torch.float32)
            advantages[b, sampled:stop] = row.advantage
            start = stop
        positions[b, start:] -= start
    return PackedBatch(
        ids=ids,
        positions=positions,
        segments=segments,
        weights=weights,
        logprobs=logprobs,
        advantages=advantages,
    )
