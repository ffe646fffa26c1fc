"""Build or load the policy: any Hugging Face causal language model with ordinary causal attention."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from rl.config.model import ScratchModel
from rl.learner.attention.interface import NAME
from rl.learner.logprobs import score_forests
from rl.learner.sharding import whole


def build_model(config: ScratchModel, *, vocabulary: int, pad: int, eos: int, seed: int) -> Any:
    """Random float32 weights, the same for the same seed; `vocabulary` counts the tokenizer's padding."""
    shape = {
        "vocab_size": vocabulary,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "intermediate_size": config.intermediate_size,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_length,
        "tie_word_embeddings": config.tie_embeddings,
        "pad_token_id": pad,
        "bos_token_id": None,
        "eos_token_id": eos,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.architecture == "qwen3":
            return Qwen3ForCausalLM(Qwen3Config(**shape)).float()
        return LlamaForCausalLM(LlamaConfig(**shape)).float()


def load_model(directory: Path, vocabulary: int | None = None) -> Any:
    """Float32 weights from safetensors, with `rl.learner.logprobs.forest_logprobs` as forward pass, and
    without dropout: the learner's log-probabilities have to be those that the engine samples with.

    `vocabulary`: number of the tokenizer's ids, over which log-probabilities are normalised; None is every
    row.
    """
    model = load_pretrained(AutoModelForCausalLM, directory)
    score_forests(model, vocabulary)
    return model


def load_pretrained(
    kind: Any, directory: Path, *, labels: dict[int, str] | None = None, **options: Any
) -> Any:
    """What `kind`, one of transformers' auto classes, loads for forests: float32 weights from safetensors,
    without dropout. `labels`: names of a classifier's classes.
    """
    config = AutoConfig.from_pretrained(str(directory), trust_remote_code=False)
    if labels is not None:
        config.id2label, config.label2id = labels, {name: index for index, name in labels.items()}
    switch_off_dropout(config)
    return kind.from_pretrained(
        str(directory),
        config=config,
        dtype=torch.float32,
        trust_remote_code=False,
        use_safetensors=True,
        attn_implementation=NAME,
        **options,
    )


def switch_off_dropout(config: Any) -> list[str]:
    """Sets every dropout rate of a Hugging Face configuration to 0. Returns the names of those above 0."""
    text = config.get_text_config()
    found = [
        key
        for key, value in text.to_dict().items()
        if "drop" in key and isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    ]
    for key in found:
        setattr(text, key, 0.0)
    return found


def publishable_weights(model: Any) -> dict[str, torch.Tensor]:
    """Tensors by checkpoint name, contiguous, each storage once: a tied output layer is left out."""
    tied = bool(model.config.tie_word_embeddings)
    return {
        name: whole(tensor).detach().to("cpu").contiguous()
        for name, tensor in model.state_dict().items()
        if not (tied and name == "lm_head.weight")
    }
