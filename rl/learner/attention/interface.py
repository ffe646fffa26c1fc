"""Forest attention behind the name that Hugging Face models look up: no model is edited.

A model loaded with `attn_implementation=NAME` and called with `forest=plan` attends by that plan. It may
not have layers that mix tokens in any other way: see `rl.learner.attention.support`.
"""

from typing import Any, Protocol

import torch
from transformers import AttentionInterface

from data.forests.collate import ForestBatch
from rl.learner.attention.flex import Flex
from rl.learner.attention.tiles import Tiles

NAME = "braid_forest"


class Plan(Protocol):
    """How the tokens of one forest attend; made once, followed by every layer."""

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """query [1, H, T, D], key and value [1, Hkv, T, D] -> [1, T, H, D]."""
        ...


def plan_for(batch: ForestBatch) -> Plan:
    """Block-sparse on CUDA; dense tiles elsewhere."""
    return Flex(batch) if batch.ids.device.type == "cuda" else Tiles(batch)


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    *,
    scaling: float,
    forest: Plan,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    assert not dropout and others.get("sliding_window") is None and others.get("softcap") is None
    return forest.attend(query, key, value, scaling), None


AttentionInterface.register(NAME, _attention)
