"""Reward models: a language model whose last layer says of a text how right it is.

A Hugging Face token classification model with two labels, which `transformers` and vLLM read as it is:

    score = p(right) = softmax(head(h))[1]        h: state of the last layer at the token that ends the text

Its head starts at zero, so that an untrained model gives every text 0.5.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForTokenClassification

from data.errors import ConfigError
from data.forests.collate import ForestBatch, collate
from data.forests.forest import build_forest
from data.forests.rows import TargetRow
from rl.learner.logprobs import hidden_states
from rl.learner.model import load_pretrained

LABELS = {0: "wrong", 1: "right"}


def load_scorer(directory: Path) -> Any:
    """Float32 weights of a reward model, or of a language model, which gets a head of zeros.

    Its forward pass is that of `forest_logits`, without dropout. Raises ConfigError when its files are
    missing or damaged.
    """
    try:
        model, report = load_pretrained(
            AutoModelForTokenClassification, directory, labels=LABELS, output_loading_info=True
        )
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"{directory}: the reward model cannot be read ({error})\n"
            "  fix: restore the directory, or train the model again"
        ) from error
    missing = set(report["missing_keys"])
    head = {name for name, _ in model.named_parameters() if name.startswith("score.")}
    assert missing <= head, f"{directory}: weights are missing: {sorted(missing - head)}"
    if missing:
        with torch.no_grad():
            for parameter in model.score.parameters():
                parameter.zero_()
    model.forward = partial(_forward, model)
    return model


def forest_logits(model: Any, batch: ForestBatch, *, bfloat16: bool = False) -> torch.Tensor:
    """[L, 2] logits (wrong, right) at the node of each label; the head computes in float32."""
    found: torch.Tensor = model(batch=batch, bfloat16=bfloat16)
    return found


def _forward(model: Any, *, batch: ForestBatch, bfloat16: bool) -> torch.Tensor:
    hidden = hidden_states(model, batch, bfloat16=bfloat16)[batch.nodes]
    head = model.score
    bias = None if head.bias is None else head.bias.float()
    return torch.nn.functional.linear(hidden.float(), head.weight.float(), bias)


@torch.no_grad()
def scores_of(model: Any, rows: Sequence[TargetRow], *, bfloat16: bool = False) -> list[list[float]]:
    """[rows][places] p(right) at every place with weight, in one pass over the rows' forest."""
    forest = build_forest(rows)
    logits = forest_logits(model, collate(forest).to(model.device), bfloat16=bfloat16)
    right = torch.softmax(logits.double(), dim=-1)[:, 1].tolist()
    found: list[dict[int, float]] = [{} for _ in rows]
    for row, place, score in zip(forest.labels.rows, forest.labels.outputs, right, strict=True):
        found[row][place] = score
    return [[scores[place] for place in sorted(scores)] for scores in found]
