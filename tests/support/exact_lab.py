"""Forests against one plain forward and backward pass a row, over random models of several kinds."""

import copy
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

from data.forests.collate import collate
from data.forests.forest import build_forest
from data.forests.rows import Row
from rl.learner.attention.interface import NAME
from rl.learner.logprobs import forest_logprobs, score_forests

VOCABULARY = 256
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.3,
}
CONFIGS = {
    "qwen3": Qwen3Config(**SHAPE, head_dim=16, tie_word_embeddings=True),
    "qwen2": Qwen2Config(**SHAPE, tie_word_embeddings=False),
    "llama": LlamaConfig(**SHAPE, tie_word_embeddings=False),
}


def models(kind: str) -> tuple[Any, Any]:
    """-> (called with forests, plain), with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        # A model writes how it attends into its configuration.
        one, other = copy.deepcopy(CONFIGS[kind]), copy.deepcopy(CONFIGS[kind])
        plain = AutoModelForCausalLM.from_config(one, attn_implementation="sdpa").float().eval()
        forest = AutoModelForCausalLM.from_config(other, attn_implementation=NAME).float().eval()
    forest.load_state_dict(plain.state_dict())
    score_forests(forest)
    return forest, plain


def plain_loss(
    model: Any, rows: list[Row], temperature: float
) -> tuple[torch.Tensor, dict[Any, torch.Tensor]]:
    """-> (weighted sum of log p, each label's log p by (row, output)), a forward pass for every row."""
    total, found = torch.zeros(()), {}
    for index, row in enumerate(rows):
        logits = model(torch.tensor([row.ids])).logits[0] / temperature
        logp = logits.log_softmax(-1)
        for place, weight in enumerate(row.weights):
            if weight:
                at = row.first + place
                found[index, place] = logp[at - 1, row.ids[at]]
                total = total + weight * found[index, place]
    return total, found


def assert_equal_to_rows(
    kind: str, rows: list[Row], parts: list[list[Row]], temperature: float = 1.0
) -> None:
    model, plain = models(kind)
    number = {id(row): index for index, row in enumerate(rows)}
    expected, values = plain_loss(plain, rows, temperature)
    expected.backward()
    loss = torch.zeros(())
    for part in parts:
        forest = build_forest(part)
        logprobs, entropy = forest_logprobs(model, collate(forest), temperature=temperature, entropy=True)
        assert bool((entropy > 0).all()) and not entropy.requires_grad
        places = list(zip(forest.labels.rows, forest.labels.outputs, strict=True))
        told = torch.stack([values[number[id(part[row])], place] for row, place in places])
        assert float((logprobs - told).abs().max().detach()) < 1e-5
        weights = torch.tensor([part[row].weights[place] for row, place in places])
        part_loss = (weights * logprobs).sum()
        part_loss.backward()
        loss = loss + part_loss.detach()
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-6, abs=1e-5)
    for (name, one), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert float((one.grad - other.grad).norm() / other.grad.norm().clamp(min=0.1)) < 1e-4, name
