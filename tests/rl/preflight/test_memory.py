"""Memory of learner and engine: by hand, for known models from 0.6B to 32B, and for SmolLM2 as measured."""

from typing import Any

import pytest

from rl.config.stages import RlStage
from rl.preflight.memory import (
    DRIVER_GB,
    GIB,
    RANK_GB,
    ModelShape,
    activation_bytes,
    engine_memory,
    learner_memory,
)
from rollout.engines.vllm_settings import PROCESS_GB

SHAPE = ModelShape(parameters=1e9, layers=10, hidden=100, intermediate=200, vocabulary=1000)


def stage(**given: Any) -> RlStage:
    base = {
        "kind": "rl", "name": "rl", "steps": 1, "groups_per_step": 1, "samples_per_group": 2,
        "learning_rate": 1e-6, "forest_tokens": 1000, **given,
    }  # fmt: skip
    return RlStage.model_validate(base)


def parts(**given: Any) -> tuple[float, float, float]:
    """Weights, gradients and moments in units of 1e9 bytes."""
    found = learner_memory(SHAPE, stage(**given))
    return tuple(round(part * GIB / 1e9, 3) for part in (found.weights, found.gradients, found.moments))  # type: ignore[return-value]


def test_numbers_a_weight_by_hand() -> None:
    """1e9 weights: bytes of each part, in 1e9."""
    half = {"precision": "bfloat16", "weights": "bfloat16"}
    assert parts() == (4, 4, 8)
    assert parts(**half) == (6, 2, 8)  # 2 + 4 of the master
    assert parts(algorithm={"kl_coef": 0.1}) == (8, 4, 8)
    assert parts(**half, algorithm={"kl_coef": 0.1}) == (8, 2, 8)
    # Four shards, and two layers of 1e8 weights gathered in float32.
    assert parts(sharding="fsdp", num_ranks=4) == (1.8, 1, 2)
    # Adapters of rank 2: 2 x 10 layers x (8 x 100 + 3 x 300) = 34,000 numbers.
    weights, gradients, moments = parts(lora={"rank": 2})
    assert (weights, gradients, moments) == (4.0, 0.0, 0.0)
    assert parts(**half, lora={"rank": 2})[0] == 2.0


def test_an_implicit_reward_model_by_hand() -> None:
    """Its frozen weights, and 16 bytes for each of 34,000 numbers of adapters of rank 2; not sharded."""
    prime = {"name": "prime", "implicit": {"lora": {"rank": 2}}}
    half = {"precision": "bfloat16", "weights": "bfloat16"}
    plain, found = learner_memory(SHAPE, stage()), learner_memory(SHAPE, stage(algorithm=prime))
    assert found.implicit * GIB == pytest.approx(4e9 + 16 * 34_000)
    assert found.total - found.implicit == pytest.approx(plain.total) and plain.implicit == 0
    sharded = learner_memory(SHAPE, stage(algorithm=prime, **half, sharding="fsdp", num_ranks=4))
    assert sharded.implicit * GIB == pytest.approx(2e9 + 16 * 34_000)


def test_activations_by_hand() -> None:
    """1,000 tokens x 10 layers x (6 x 100 + 3 x 200) numbers, and 4 x 1,000 x 1,000 float32 logits."""
    assert activation_bytes(SHAPE, stage()) == 1000 * 10 * 1200 * 4 + 16e6
    assert activation_bytes(SHAPE, stage(precision="bfloat16")) == 1000 * 10 * 1200 * 2 + 16e6
    assert (
        activation_bytes(SHAPE, stage(activation_checkpointing=True)) == 1000 * (10 * 400 + 1200 * 4) + 16e6
    )


def test_engines_by_hand() -> None:
    assert engine_memory(SHAPE, dtype="bfloat16", kv_cache_gb=1.0) == pytest.approx(1 + 2e9 / GIB)
    assert engine_memory(SHAPE, dtype="float32", kv_cache_gb=1.0, tensor_parallel=4) == pytest.approx(
        1 + 1e9 / GIB
    )


QWEN3 = {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936}
MODELS = {
    "Qwen3-0.6B": (0.60e9, dict(hidden_size=1024, num_hidden_layers=28, num_attention_heads=16,
                                intermediate_size=3072, tie_word_embeddings=True, **QWEN3)),
    "Qwen3-1.7B": (1.72e9, dict(hidden_size=2048, num_hidden_layers=28, num_attention_heads=16,
                                intermediate_size=6144, tie_word_embeddings=True, **QWEN3)),
    "Qwen3-4B": (4.02e9, dict(hidden_size=2560, num_hidden_layers=36, num_attention_heads=32,
                              intermediate_size=9728, tie_word_embeddings=True, **QWEN3)),
    "Qwen3-8B": (8.19e9, dict(hidden_size=4096, num_hidden_layers=36, num_attention_heads=32,
                              intermediate_size=12_288, tie_word_embeddings=False, **QWEN3)),
    "Qwen3-14B": (14.77e9, dict(hidden_size=5120, num_hidden_layers=40, num_attention_heads=40,
                                intermediate_size=17_408, tie_word_embeddings=False, **QWEN3)),
    "Qwen3-32B": (32.76e9, dict(hidden_size=5120, num_hidden_layers=64, num_attention_heads=64,
                                intermediate_size=25_600, tie_word_embeddings=False, **QWEN3)),
}  # fmt: skip
"""Published number of weights, and the shape in config.json."""


@pytest.mark.parametrize("name", MODELS)
def test_known_models(name: str) -> None:
    """The count of weights is the published one, and eight GPUs of 80 GiB hold what is known to fit."""
    published, config = MODELS[name]
    shape = ModelShape.of_config(config)
    assert shape.parameters == pytest.approx(published, rel=0.01)
    full = stage(precision="bfloat16", weights="bfloat16", forest_tokens=8192, activation_checkpointing=True)
    one = learner_memory(shape, full)
    assert one.total * GIB > 16 * published
    eight = learner_memory(shape, full.model_copy(update={"sharding": "fsdp", "num_ranks": 8}))
    assert eight.total < one.total / 3
    fits = {"Qwen3-0.6B", "Qwen3-1.7B", "Qwen3-4B"}
    assert (one.total < 80) == (name in fits)
    assert 16 * published / 8 / GIB < eight.total < 80
    lora = learner_memory(shape, full.model_copy(update={"lora": stage(lora={"rank": 16}).lora}))
    assert lora.total < 80, "a frozen model in bfloat16 fits"


def test_smollm2_as_measured() -> None:
    """Two steps of reinforcement learning peaked at 6.78 GB (6.3 GiB) in all; 5.5 GiB had been said."""
    config = {
        "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
        "intermediate_size": 1536, "vocab_size": 49_152, "tie_word_embeddings": True,
    }  # fmt: skip
    shape = ModelShape.of_config(config)
    assert shape.parameters == pytest.approx(134.5e6, rel=0.001)
    learner = learner_memory(shape, stage(forest_tokens=1024))
    engine = engine_memory(shape, dtype="float32", kv_cache_gb=0.25)
    assert 6.3 <= DRIVER_GB + RANK_GB + learner.total + engine + PROCESS_GB < 7.2
