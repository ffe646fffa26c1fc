"""Reward models: a language model whose last layer says of a text how right it is.

Hugging Face models that `transformers` and vLLM read as they are; h is the state of the last layer at the
token that ends the text:

    steps     token classification, two labels       score = p(right) = softmax(head(h))[1]
    outcome   sequence classification, one label     reward = head(h), any number; score = sigmoid(reward)

Their head starts at zero, so that an untrained model gives every text 0.5.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification

from data.errors import ConfigError
from data.forests.collate import ForestBatch, collate
from data.forests.forest import build_forest
from data.forests.rows import TargetRow
from rl.config.lora import Lora
from rl.config.scorer import CLASSIFIERS, ScorerTarget
from rl.learner.added_tags import read_tag_ids
from rl.learner.logprobs import hidden_states
from rl.learner.lora import ADAPTER_FILE, add_adapters, load_adapters
from rl.learner.masters import round_weights
from rl.learner.model import load_pretrained
from rl.learner.snapshot import MODEL_FILE

LABELS: dict[ScorerTarget, dict[int, str]] = {"steps": {0: "wrong", 1: "right"}, "outcome": {0: "right"}}
_CLASSES: dict[ScorerTarget, Any] = {
    "steps": AutoModelForTokenClassification,
    "outcome": AutoModelForSequenceClassification,
}
_HEAD = "score."


def load_scorer(directory: Path, target: ScorerTarget = "steps") -> Any:
    """Float32 weights of a reward model, or of a language model, which gets a head of zeros.

    Its forward pass is that of `forest_logits`, without dropout. Raises ConfigError when its files are
    missing or damaged, or those of the other kind.
    """
    try:
        _ensure_kind(directory, target)
        model, report = load_pretrained(
            _CLASSES[target], directory, labels=LABELS[target], output_loading_info=True
        )
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"{directory}: the reward model cannot be read ({error})\n"
            "  fix: restore the directory, or train the model again"
        ) from error
    missing = set(report["missing_keys"])
    head = {name for name, _ in model.named_parameters() if name.startswith(_HEAD)}
    assert missing <= head, f"{directory}: weights are missing: {sorted(missing - head)}"
    if missing:
        with torch.no_grad():
            for parameter in model.score.parameters():
                parameter.zero_()
    model.forward = partial(_forward, model)
    return model


def _ensure_kind(directory: Path, target: ScorerTarget) -> None:
    """Raises ConfigError for a classifier whose head is not the one that the target has."""
    config = AutoConfig.from_pretrained(str(directory), trust_remote_code=False)
    names = [name for name in config.architectures or () if "Classification" in name]
    wanted, labels = CLASSIFIERS[target]
    if names and not (names[0].endswith(wanted) and config.num_labels == labels):
        raise ConfigError(
            f"{directory}: is a {names[0]} with {config.num_labels} label(s), and target: {target} takes "
            f"{wanted} with {labels}\n"
            "  fix: set scorer.target to what this model scores (steps or outcome), or name another directory"
        )


def scorer_to_train(
    directory: Path,
    target: ScorerTarget,
    lora: Lora | None,
    *,
    checkpoint: Path | None,
    seed: int,
    rounded: bool,
) -> tuple[Any, dict[str, torch.Tensor]]:
    """-> the model as training goes on with it, and masters of the weights that are `rounded` to bfloat16.

    With adapters the weights in `directory` stay frozen, and what a checkpoint holds is put beside them: its
    adapters and its head. `seed`: of new adapters. Raises as `load_scorer`, `add_adapters`, `load_adapters`.
    """
    model = load_scorer(directory if lora is not None or checkpoint is None else checkpoint, target)
    if lora is not None and checkpoint is not None:
        saved = load_file(checkpoint / MODEL_FILE)
        head = {name: saved[name] for name, _ in model.named_parameters() if name.startswith(_HEAD)}
        model.load_state_dict(head, strict=False)
    masters = round_weights(model) if rounded else {}
    if lora is None:
        return model, masters
    add_adapters(model, lora, seed=seed, tag_ids=read_tag_ids(directory))
    model.score.requires_grad_(True)
    if checkpoint is not None:
        load_adapters(model, load_file(checkpoint / ADAPTER_FILE))
    return model, masters


def forest_logits(model: Any, batch: ForestBatch, *, bfloat16: bool = False) -> torch.Tensor:
    """[L, labels] logits at the node of each label: (wrong, right) of steps, the reward of outcomes. The head
    computes in float32.
    """
    found: torch.Tensor = model(batch=batch, bfloat16=bfloat16)
    return found


def _forward(model: Any, *, batch: ForestBatch, bfloat16: bool) -> torch.Tensor:
    hidden = hidden_states(model, batch, bfloat16=bfloat16)[batch.nodes]
    head = model.score
    bias = None if head.bias is None else head.bias.float()
    if head.weight.shape[0] == 1:
        # A product of a matrix and a vector rounds rows in different ways: equal texts would differ.
        reward = (hidden.float() * head.weight.float()).sum(-1, keepdim=True)
        return reward if bias is None else reward + bias
    return torch.nn.functional.linear(hidden.float(), head.weight.float(), bias)


def right_probability(logits: torch.Tensor) -> torch.Tensor:
    """[L] p(right) in float64 of logits [L, 2], or of rewards [L, 1]."""
    logits = logits.double()
    return torch.sigmoid(logits[:, 0]) if logits.shape[-1] == 1 else torch.softmax(logits, dim=-1)[:, 1]


@torch.no_grad()
def scores_of(model: Any, rows: Sequence[TargetRow], *, bfloat16: bool = False) -> list[list[float]]:
    """[rows][places] p(right) at every place with weight, in one pass over the rows' forest."""
    forest = build_forest(rows)
    right = right_probability(forest_logits(model, collate(forest).to(model.device), bfloat16=bfloat16))
    found: list[dict[int, float]] = [{} for _ in rows]
    for row, place, score in zip(forest.labels.rows, forest.labels.outputs, right.tolist(), strict=True):
        found[row][place] = score
    return [[scores[place] for place in sorted(scores)] for scores in found]
