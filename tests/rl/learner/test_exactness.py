"""Which architectures forests are exact for: small copies of the models, their settings kept."""

from pathlib import Path
from typing import Any

import pytest
from transformers import (
    AutoConfig,
    BloomConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    Qwen3Config,
    StableLmConfig,
)

from rl.learner.attention.exactness import check_exactness, shrunk
from rl.learner.model import load_model
from rl.preflight.attention_trial import exactness

SHAPE = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 3}
LLAMA = {**SHAPE, "intermediate_size": 64, "num_key_value_heads": 2, "pad_token_id": 0}
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 1024,
    "short_factor": [1.0] * 8, "long_factor": [4.0] * 8,
}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}


def found(config: Any, folder: Path, max_length: int = 1024) -> Any:
    config.save_pretrained(folder)
    return check_exactness(folder, max_length)


@pytest.mark.parametrize(
    ("config", "dropout"),
    [
        (Qwen3Config(**LLAMA, head_dim=32), ()),
        (LlamaConfig(**LLAMA, attention_dropout=0.1), ("attention_dropout",)),
        (MistralConfig(**LLAMA, sliding_window=None), ()),
        (OPTConfig(**SHAPE, ffn_dim=64, word_embed_proj_dim=64, dropout=0.1), ("dropout",)),
        (Phi3Config(**LLAMA, resid_pdrop=0.1), ("resid_pdrop",)),
    ],
    ids=lambda value: value.model_type if hasattr(value, "model_type") else "",
)
def test_exact_once_dropout_is_off(config: Any, dropout: tuple[str, ...], tmp_path: Path) -> None:
    result = found(config, tmp_path)
    assert result.reason is None and result.difference < 1e-4
    assert result.dropout == dropout


def test_learned_positions_are_exact_and_three_kinds_of_dropout_go(tmp_path: Path) -> None:
    result = found(GPT2Config(n_embd=64, n_head=4, n_layer=3), tmp_path)
    assert result.reason is None and {"resid_pdrop", "embd_pdrop", "attn_pdrop"} <= set(result.dropout)


def test_alibi_is_refused(tmp_path: Path) -> None:
    result = found(BloomConfig(hidden_size=64, n_head=4, n_layer=2), tmp_path)
    assert result.reason is not None and "differ from those of its rows" in result.reason
    assert result.key == "model_type" and result.difference > 0.1


@pytest.mark.slow
def test_attention_that_does_not_take_a_forest_is_refused(tmp_path: Path) -> None:
    StableLmConfig(**LLAMA).save_pretrained(str(tmp_path))
    result = exactness(tmp_path, 1024)
    assert result.reason is not None and "does not take a forest" in result.reason


def test_rope_that_depends_on_the_longest_row_is_refused_beyond_its_original_context(tmp_path: Path) -> None:
    positions = {"max_position_embeddings": 8192, "original_max_position_embeddings": 1024}
    config = Phi3Config(**LLAMA, **positions, rope_parameters=LONGROPE)
    assert found(config, tmp_path, max_length=1024).reason is None
    result = found(config, tmp_path, max_length=4096)
    assert result.reason is not None and result.key == "rope_parameters (longrope)"
    assert result.difference > 0.1
    dynamic = LlamaConfig(**LLAMA, max_position_embeddings=1024, rope_parameters=DYNAMIC)
    assert found(dynamic, tmp_path, max_length=1024).reason is None
    result = found(dynamic, tmp_path, max_length=4096)
    assert result.reason is not None and result.key == "rope_parameters (dynamic)"


def test_a_small_copy_keeps_everything_but_size(tmp_path: Path) -> None:
    config = Phi3Config(
        hidden_size=3072, num_attention_heads=32, num_key_value_heads=8, num_hidden_layers=32, pad_token_id=0,
        max_position_embeddings=131072, original_max_position_embeddings=4096, rms_norm_eps=1e-3,
    )  # fmt: skip
    small = shrunk(config, 8192)
    # A head stays 96 wide; 8192 tokens become 96, so 4096 become 48.
    assert (small.hidden_size, small.num_attention_heads, small.num_key_value_heads) == (384, 4, 1)
    assert (small.num_hidden_layers, small.original_max_position_embeddings) == (4, 48)
    assert small.max_position_embeddings == 1536 and small.rms_norm_eps == 1e-3


def test_a_loaded_model_has_no_dropout(tmp_path: Path) -> None:
    from transformers import OPTForCausalLM

    model = OPTForCausalLM(OPTConfig(**SHAPE, ffn_dim=64, word_embed_proj_dim=64, vocab_size=50, dropout=0.1))
    model.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).dropout == 0.1
    assert load_model(tmp_path).model.decoder.layers[0].dropout == 0.0


@pytest.mark.slow
def test_the_check_runs_in_a_process_of_its_own(tiny_model_dir: Path) -> None:
    result = exactness(tiny_model_dir, 1024)
    assert result.reason is None and result.difference < 1e-4 and result.dropout == ()
