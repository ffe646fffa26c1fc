"""Forest attention on CUDA: FlexAttention, which skips blocks of the mask that are empty."""

from typing import Any

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from data.forests.collate import ForestBatch

BLOCK = 128
"""Tokens of a block of the mask."""
_compiled: Any = None


def _kernel(device: torch.device) -> Any:
    """Compiled on CUDA; uncompiled elsewhere, where it is exact but slow."""
    global _compiled
    if device.type != "cuda":
        return flex_attention
    if _compiled is None:
        _compiled = torch.compile(flex_attention, dynamic=True)
    return _compiled


class Flex:
    """The plan for one forest; every layer's attention follows it."""

    def __init__(self, batch: ForestBatch) -> None:
        end, tokens = batch.end, len(batch.ids)
        self._kernel = _kernel(batch.ids.device)

        def visible(_batch: Any, _head: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
            return (key <= query) & (end[key] > query)

        self._mask = create_block_mask(
            visible, None, None, tokens, tokens, device=str(batch.ids.device), BLOCK_SIZE=BLOCK
        )

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """query [1, H, T, D], key and value [1, Hkv, T, D] -> [1, T, H, D]."""
        found: torch.Tensor = self._kernel(
            query.to(value.dtype),
            key.to(value.dtype),
            value,
            block_mask=self._mask,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return found.transpose(1, 2)
