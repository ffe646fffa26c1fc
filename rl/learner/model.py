"""Build or load the policy: any Hugging Face causal language model with ordinary causal attention."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

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
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        if config.architecture == "qwen3":
            return Qwen3ForCausalLM(Qwen3Config(**shape)).float()
        return LlamaForCausalLM(LlamaConfig(**shape)).float()
    finally:
        torch.random.set_rng_state(generator_state)


def load_model(directory: Path, *, vocabulary: int | None = None) -> Any:
    """Float32 weights from safetensors, called as `rl.learner.logprobs.forest_logprobs` does; `vocabulary`
    grows the embeddings when tokens were added.
    """
    model = AutoModelForCausalLM.from_pretrained(
        str(directory),
        dtype=torch.float32,
        trust_remote_code=False,
        use_safetensors=True,
        attn_implementation=NAME,
    )
    if vocabulary is not None and vocabulary > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(vocabulary)
    model.config.use_cache = False
    score_forests(model)
    return model


def publishable_weights(model: Any) -> dict[str, torch.Tensor]:
    """Tensors by checkpoint name, contiguous, each storage once: a tied output layer is left out."""
    tied = bool(model.config.tie_word_embeddings)
    return {
        name: whole(tensor).detach().to("cpu").contiguous()
        for name, tensor in model.state_dict().items()
        if not (tied and name == "lm_head.weight")
    }
