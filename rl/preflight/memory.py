"""Memory that a learner's rank and an engine need, from a model's shape. Pure arithmetic."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rl.config.lora import Lora
from rl.config.model import ScratchModel
from rl.config.stages import RewardModelStage, RlStage, TrainingStage
from rl.learner.chunking import LOGITS

GIB = 1024**3
DRIVER_GB = 0.6
"""Memory of the driver and Ray: an allowance, see RANK_GB."""
RANK_GB = 0.7
"""Memory of a learner's process besides what is computed here. On CPU its imports alone take 0.4 (measured);
the rest is an allowance, chosen so that all parts cover the one whole run measured, SmolLM2's (6.3 GiB).
"""
_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelShape:
    """Sizes of a decoder that decide its memory."""

    parameters: float
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int

    @classmethod
    def of_scratch(cls, model: ScratchModel, vocabulary: int) -> "ModelShape":
        """The shape of a model from random weights."""
        return cls(
            parameters=float(model.num_parameters(vocabulary)),
            layers=model.num_layers,
            hidden=model.hidden_size,
            intermediate=model.intermediate_size,
            vocabulary=vocabulary,
        )

    @classmethod
    def of_config(cls, config: Mapping[str, Any], parameters: float | None = None) -> "ModelShape":
        """The shape in a config.json; `parameters` is counted from the sizes when it is not given, norms and
        biases left out (< 0.1%).
        """
        hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
        heads = int(config["num_attention_heads"])
        key_values = int(config.get("num_key_value_heads") or heads)
        size = int(config.get("head_dim") or hidden // heads)
        intermediate = int(config.get("intermediate_size") or 4 * hidden)
        vocabulary = int(config["vocab_size"])
        layer = 2 * hidden * size * (heads + key_values) + 3 * hidden * intermediate
        tables = 1 if config.get("tie_word_embeddings", False) else 2
        return cls(
            parameters=float(layers * layer + tables * vocabulary * hidden)
            if parameters is None
            else parameters,
            layers=layers,
            hidden=hidden,
            intermediate=intermediate,
            vocabulary=vocabulary,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerMemory:
    """Gigabytes (GiB) of one rank, process not included."""

    weights: float
    """All copies: policy, masters of weights in bfloat16, frozen reference."""
    gradients: float
    moments: float
    critic: float
    """Weights, gradients and moments of a critic."""
    implicit: float
    """Frozen weights of an implicit reward model, and its adapters with gradients and moments, whole."""
    activations: float
    """What one forest keeps for the backward pass, and the logits of a chunk."""

    @property
    def total(self) -> float:
        """The sum of the parts."""
        parts = (self.weights, self.gradients, self.moments, self.critic, self.implicit, self.activations)
        return sum(parts)


def learner_memory(shape: ModelShape, stage: TrainingStage) -> LearnerMemory:
    """Memory of one rank of a stage.

    Full training holds 16 bytes a weight: the weight, its gradient and two moments in float32, or weight and
    gradient in bfloat16, a float32 master and two moments; with FSDP divided by the number of ranks, and one
    layer is whole. Adapters hold the frozen weight alone, and 16 bytes for each of their own numbers.

    Example: 1e9 weights, float32, one rank: 4e9 + 4e9 + 8e9 bytes = 3.7 + 3.7 + 7.5 GiB.
    """
    sharded = isinstance(stage, RlStage) and stage.sharding == "fsdp"
    ranks = stage.num_ranks if sharded else 1
    size = _BYTES[stage.weights]
    trained, frozen = shape.parameters, 0.0
    lora = stage.lora
    if lora is not None:
        trained, frozen = adapter_parameters(shape, lora), shape.parameters
    # FSDP keeps masters as shards and gathers them in the format of the pass.
    master = 4 if size == 2 and lora is None and not sharded else 0
    held = 4 if sharded or lora is not None else size
    weights = (held + master) * trained + size * frozen
    copies, critic, implicit = 0.0, 0.0, 0.0
    if isinstance(stage, RlStage):
        if stage.algorithm.implicit is not None:
            implicit = size * shape.parameters + 16 * adapter_parameters(shape, stage.algorithm.implicit.lora)
        copies = float(size if not sharded else 4) * shape.parameters if stage.algorithm.kl_coef > 0 else 0.0
        critic = 16.0 * shape.parameters if stage.algorithm.critic is not None else 0.0
    gathered = (shape.parameters / shape.layers) * 4 * 2 if sharded else 0.0
    return LearnerMemory(
        weights=((weights + copies) / ranks + gathered) / GIB,
        gradients=held * trained / ranks / GIB,
        moments=8 * trained / ranks / GIB,
        critic=critic / ranks / GIB,
        implicit=implicit / GIB,
        activations=activation_bytes(shape, stage) / GIB,
    )


def adapter_parameters(shape: ModelShape, lora: Lora) -> float:
    """Numbers of adapters beside all linear layers of the decoder's layers."""
    inner = shape.layers * (8 * shape.hidden + 3 * (shape.hidden + shape.intermediate))
    return float(lora.rank * inner)


def activation_bytes(shape: ModelShape, stage: TrainingStage) -> float:
    """Bytes kept for the backward pass of one forest: per token and layer 6 vectors of the residual stream's
    width and 3 of the MLP's (SmolLM2 in bfloat16: 16.1 kB by this count, 17.5 kB by
    one reading of a running process), or with checkpointing one of each layer and all of one layer; and four
    copies of a chunk of float32 logits.
    """
    number = 2 if stage.precision == "bfloat16" else 4
    layer = number * (6 * shape.hidden + 3 * shape.intermediate)
    kept = shape.layers * layer
    if isinstance(stage, RlStage) and stage.activation_checkpointing:
        kept = shape.layers * 4 * shape.hidden + layer
    words = 2 if isinstance(stage, RewardModelStage) else shape.vocabulary
    logits = min(LOGITS, stage.forest_tokens * words)
    return float(stage.forest_tokens * kept + 4 * 4 * logits)


def engine_memory(shape: ModelShape, *, dtype: str, kv_cache_gb: float, tensor_parallel: int = 1) -> float:
    """GiB on one device of an engine: its part of the weights, and its key-value cache; without process."""
    return shape.parameters * _BYTES[dtype] / tensor_parallel / GIB + kv_cache_gb
