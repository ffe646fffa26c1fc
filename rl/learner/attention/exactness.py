"""Test on a small copy of a model whether it computes the same in a forest as row by row.

No list of settings covers every architecture: dropout, position encodings that depend on the
length of a pass, attention that does not use our function, recurrent state. So the check builds the
model's own class with its own configuration, made small (fewer layers, heads, tokens; context lengths in
the same proportions), draws random weights, and compares log-probabilities:
    forest    in training mode, as the learner computes them, rows of all lengths in one pass
    rows      in evaluation mode, one plain forward pass each, as the engine computes them
"""

import copy
import math
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from data.forests.collate import collate
from data.forests.forest import build_forest
from data.forests.rows import Row
from rl.learner.attention.interface import NAME
from rl.learner.attention.support import Exactness
from rl.learner.logprobs import forest_logprobs, score_forests
from rl.learner.lora import linear_layers
from rl.learner.model import switch_off_dropout

TOLERANCE = 1e-3
"""Largest difference of a log-probability, in nats. Rounding alone gives less than 1e-4."""
LAYERS, HEADS, WORDS, LONGEST = 4, 4, 128, 96
"""Largest size of the small copy, and length of its longest row."""
_CONTEXTS = ("max_position_embeddings", "original_max_position_embeddings")
_ROPE = ("rope_parameters", "rope_scaling")


def check_exactness(directory: Path, max_length: int) -> Exactness:
    """Compare forest and rows for the model in `directory`, with rows of up to `max_length` tokens, scaled
    down to LONGEST together with the model's context lengths.
    """
    config = AutoConfig.from_pretrained(str(directory), trust_remote_code=False)
    dropout = tuple(switch_off_dropout(config))
    small = shrunk(config, max_length)
    difference = _difference(small)
    if difference <= TOLERANCE:
        layers = tuple(_layers(config))
        return Exactness(difference=difference, reason=None, key="", dropout=dropout, layers=layers)
    key = "model_type"
    for name, changed in _without(small):
        if _difference(changed) <= TOLERANCE:
            key = name
            break
    differ = f"log-probabilities of a forest differ from those of its rows by {difference:.2g} nats"
    return Exactness(difference=difference, reason=differ, key=key, dropout=dropout)


def _layers(config: Any) -> list[str]:
    """Linear layers of the model at its full size, without its weights."""
    with torch.device("meta"):
        return linear_layers(AutoModelForCausalLM.from_config(copy.deepcopy(config)))


def shrunk(config: Any, max_length: int) -> Any:
    """The configuration of a small copy: keys that do not affect the size are unchanged."""
    small = copy.deepcopy(config)
    text = small.get_text_config()
    heads = text.num_attention_heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    few = min(heads, HEADS)
    layers = text.num_hidden_layers
    for key, value in text.to_dict().items():
        if isinstance(value, list) and len(value) == layers:
            setattr(text, key, value[:LAYERS])
    hidden = few * (text.hidden_size // heads)
    sizes = {
        "num_hidden_layers": min(layers, LAYERS),
        "num_attention_heads": few,
        "num_key_value_heads": max(1, few * kv_heads // heads),
        "hidden_size": hidden,
        "vocab_size": WORDS,
        "intermediate_size": 2 * width,
        "ffn_dim": 2 * width,
        "n_inner": 2 * width,
        "moe_intermediate_size": width,
        "word_embed_proj_dim": hidden,
    }
    for key, size in sizes.items():
        if getattr(text, key, None) is not None:
            setattr(text, key, size)
    for key in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if getattr(text, key, None) is not None:
            setattr(text, key, 0)
    _scale_contexts(text, LONGEST / max(max_length, LONGEST))
    return small


def _scale_contexts(text: Any, scale: float) -> None:
    """Context lengths in proportion, also those of the position encoding."""
    for key in _CONTEXTS:
        if isinstance(getattr(text, key, None), int):
            setattr(text, key, math.ceil(getattr(text, key) * scale))
    for rope in _ROPE:
        given = getattr(text, rope, None)
        if isinstance(given, Mapping):
            scaled = {
                key: math.ceil(value * scale) if key in _CONTEXTS and isinstance(value, int) else value
                for key, value in given.items()
            }
            setattr(text, rope, scaled)


def _without(config: Any) -> Iterator[tuple[str, Any]]:
    """(name of a setting, the configuration without it) for settings known to depend on the whole pass."""
    for rope in _ROPE:
        given = getattr(config.get_text_config(), rope, None)
        if not isinstance(given, Mapping):
            continue
        kind = given.get("rope_type", given.get("type", "default"))
        if kind != "default":
            changed = copy.deepcopy(config)
            plain = {key: given[key] for key in ("rope_theta", "partial_rotary_factor") if key in given}
            setattr(changed.get_text_config(), rope, {"rope_type": "default", **plain})
            yield f"{rope} ({kind})", changed
    if getattr(config.get_text_config(), "sliding_window", None):
        changed = copy.deepcopy(config)
        changed.get_text_config().sliding_window = None
        yield "sliding_window", changed


def _difference(config: Any) -> float:
    """Largest difference in nats. Raises any error of a model class that cannot be called with a forest."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation="eager")
        model = AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation=NAME)
        return float(_compared(plain.float().eval(), model.float().train()))


@torch.no_grad()
def _compared(plain: Any, model: Any) -> float:
    """Largest difference in nats, with the same random weights in both."""
    for parameter in plain.parameters():
        if parameter.dim() > 1:  # far from uniform attention, or no difference would show
            parameter.normal_(0.0, 1.5 / math.sqrt(parameter.shape[-1]))
    model.load_state_dict(plain.state_dict())
    score_forests(model)
    rows = _rows()
    forest = build_forest(rows)
    found, _ = forest_logprobs(model, collate(forest))
    expected = [_row_logprobs(plain, row) for row in rows]
    places = zip(forest.labels.rows, forest.labels.outputs, strict=True)
    difference = float((found - torch.stack([expected[row][output] for row, output in places])).abs().max())
    return difference if math.isfinite(difference) else math.inf


def _rows() -> list[Row]:
    """Rows of a tree, from a few tokens to LONGEST, forking at several depths."""
    rng = random.Random(0)
    trunk = tuple(rng.randrange(1, WORDS) for _ in range(LONGEST))
    rows = []
    for shared, length in ((4, 10), (4, 24), (40, 56), (40, LONGEST), (8, LONGEST)):
        own = tuple(rng.randrange(1, WORDS) for _ in range(length - shared))
        rows.append(Row(ids=trunk[:shared] + own, first=shared, weights=(1.0,) * len(own)))
    return rows


def _row_logprobs(model: Any, row: Row) -> torch.Tensor:
    """[outputs] log-probabilities by a plain forward pass."""
    logits = model(torch.tensor([row.ids]), use_cache=False).logits[0].float()
    targets = torch.tensor(row.ids[row.first :])
    return logits[row.first - 1 : -1].log_softmax(-1)[torch.arange(len(targets)), targets]
