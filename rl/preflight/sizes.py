"""Sizes of a recipe's model and what they need: weights, key-value cache, memory of engines and learners.
Of a pretrained directory only config.json is read, and the sizes of its weight files where it has any.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.errors import ConfigError
from rl.config.base import ConfigIssue
from rl.config.labels import JudgeLabels
from rl.config.model import PretrainedModel, ScratchModel
from rl.config.recipe import Recipe
from rl.config.scorer import CLASSIFIERS, ScorerConfig, ScorerTarget
from rl.config.stages import LabelStage, TrainingStage
from rl.learner.attention.support import unsupported
from rl.preflight.check_result import CheckResult
from rl.preflight.hardware import GIB
from rl.preflight.memory import DRIVER_GB, RANK_GB, ModelShape, engine_memory, learner_memory
from rl.preflight.model_files import config_problem, weights_problem
from rollout.engines.vllm_settings import kv_bytes_per_token, least_kv_bytes

_OTHER_KIND = "set scorer.target to what the model scores (steps or outcome), or name another directory"


def refusal(recipe: Recipe, key: str, value: Any, reason: str, remedy: str) -> ConfigError:
    """The exception of a check that failed; `value` was found under `key`."""
    return ConfigIssue(key=key, value=value, reason=reason, remedy=remedy).error(recipe.source)


def pretrained_config(recipe: Recipe, model: PretrainedModel) -> dict[str, Any]:
    """The directory's config.json. Raises ConfigError when no model can be built from it."""
    path = model.path / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason, remedy = f"{path.name} cannot be read ({error})", "name a directory from save_pretrained"
        raise refusal(recipe, "model.path", str(model.path), reason, remedy) from error
    if not isinstance(config, dict):
        reason = "config.json holds no keys and values"
        raise refusal(recipe, "model.path", str(model.path), reason, "name a directory from save_pretrained")
    lacking = {"num_hidden_layers", "num_attention_heads", "hidden_size"} - set(config)
    if lacking:
        reason = f"config.json lacks {', '.join(sorted(lacking))}"
        raise refusal(recipe, "model.path", str(model.path), reason, "name a plain decoder-only model")
    refused = config_problem(config) or unsupported(config)
    if refused is not None:
        remedy = "take a model with ordinary attention, such as Qwen2, Qwen3 or Llama"
        raise refusal(recipe, "model.path", str(model.path), refused, remedy)
    return dict(config)


def scratch_vocabulary(model: ScratchModel) -> int:
    """Words of a tokenizer to be built, about: its numbers and 64 words."""
    return 64 + (64 if model.digits else model.numbers)


def weight_bytes(recipe: Recipe) -> float:
    """Bytes of the weights in float32. A from-scratch vocabulary is estimated as its numbers and 64 words,
    and the weights of a directory that holds none are counted from its shapes.
    """
    model = recipe.model
    if isinstance(model, ScratchModel):
        return 4.0 * model.num_parameters(scratch_vocabulary(model))
    config = pretrained_config(recipe, model)
    files = list(model.path.glob("*.safetensors"))
    if not files:
        return 4.0 * ModelShape.of_config(config).parameters
    dtype = str(config.get("dtype") or config.get("torch_dtype"))
    return float(sum(path.stat().st_size for path in files)) * (1 if "32" in dtype else 2)


def kv_bytes(recipe: Recipe) -> int:
    """Bytes that the key-value cache of an engine takes for a token."""
    model = recipe.model
    if isinstance(model, PretrainedModel):
        return kv_bytes_per_token(pretrained_config(recipe, model), recipe.engine.dtype)
    shape = {
        "num_hidden_layers": model.num_layers,
        "num_key_value_heads": model.num_kv_heads,
        "head_dim": model.head_dim,
    }
    return kv_bytes_per_token(shape, recipe.engine.dtype)


def shape_of(recipe: Recipe) -> ModelShape:
    """Sizes of the recipe's model."""
    if isinstance(recipe.model, ScratchModel):
        return ModelShape.of_scratch(recipe.model, scratch_vocabulary(recipe.model))
    return ModelShape.of_config(pretrained_config(recipe, recipe.model), weight_bytes(recipe) / 4)


def rank_memory(shape: ModelShape, stage: TrainingStage) -> str:
    """The memory of one rank of a stage, in words."""
    rank = learner_memory(shape, stage)
    others = f", {rank.critic:.1f} critic" if rank.critic else ""
    others += f", {rank.implicit:.1f} implicit reward model" if rank.implicit else ""
    return (
        f"about {rank.total:.1f} GiB a rank ({rank.weights:.1f} weights, "
        f"{rank.gradients:.1f} gradients, {rank.moments:.1f} moments{others}, "
        f"{rank.activations:.1f} activations), {stage.num_ranks} rank(s)"
    )


def largest_learner(recipe: Recipe, shape: ModelShape) -> tuple[float, str]:
    """-> (GiB of driver and ranks of the stage that needs most, a sentence on one of its ranks)."""
    needed, found = 0.0, ""
    for stage in recipe.training_stages():
        total = stage.num_ranks * (RANK_GB + learner_memory(shape, stage).total)
        if total > needed:
            needed, found = total, f"{stage.name}: {rank_memory(shape, stage)}"
    return DRIVER_GB + needed, found


def scorer_gb(recipe: Recipe, shape: ModelShape) -> float:
    """GiB of the scorer's processes: float32 weights, and what a process takes; 0 where none is asked.
    Rewards and searches have processes of their own, and so has a judge's `meta`.

    Raises ConfigError when the directory of its weights holds none, or damaged ones.
    """
    scorer = recipe.scorer
    uses = sum(any(map(asks, recipe.stages)) for asks in (recipe.is_scored, recipe.is_searched))
    judges = [stage.by for stage in recipe.stages if isinstance(stage, LabelStage)]
    if any(isinstance(by, JudgeLabels) and by.meta is not None for by in judges):
        workers = ScorerConfig().workers if scorer is None else scorer.workers
        meta = workers * (RANK_GB + 4.0 * shape.parameters / GIB)
    else:
        meta = 0.0
    if scorer is None or not uses:
        return meta
    weights = 0.0 if scorer.labels is not None else 4.0 * shape.parameters
    if scorer.path is not None:
        files = sorted(scorer.path.glob("*.safetensors"))
        reason, remedy = weights_problem(scorer.path), "copy or save the directory again"
        if not files or not (scorer.path / "config.json").is_file():
            reason = "holds no config.json with *.safetensors"
            remedy = "correct the path (relative to the recipe), or save the model with save_pretrained"
        if reason is None and scorer.judge is None:
            reason, remedy = _kind_problem(scorer.path, scorer.target), _OTHER_KIND
        if reason is not None:
            raise refusal(recipe, "scorer.path", str(scorer.path), reason, remedy)
        weights = float(sum(file.stat().st_size for file in files))
    return meta + uses * scorer.workers * (RANK_GB + weights / GIB)


def _kind_problem(directory: Path, target: ScorerTarget) -> str | None:
    """Why the model in a directory is no reward model of this target, or None."""
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        names, labels = config.get("architectures") or ["?"], len(config.get("id2label") or "??")
    except (OSError, ValueError, AttributeError) as error:
        return f"its config.json cannot be read ({error})"
    wanted, count = CLASSIFIERS[target]
    if str(names[0]).endswith(wanted) and labels == count:
        return None
    return f"is a {names[0]} with {labels} label(s), and target: {target} takes {wanted} with {count}"


def ensure_cache(recipe: Recipe) -> CheckResult:
    """The cache of an engine holds at least one longest call. Raises ConfigError."""
    engine = recipe.engine
    per_token, cache = kv_bytes(recipe), engine.kv_cache_gb * GIB
    least = least_kv_bytes(recipe.model.max_length, engine.block_size, per_token)
    if cache < least:
        amount = f"{least / GIB * 1.0005:.4g}"
        longest = f"model.max_length = {recipe.model.max_length}"
        reason = f"one call of {longest} tokens and the engine's own block need {amount}"
        remedy = f"raise it to {amount} or more, or lower model.max_length"
        raise refusal(recipe, "engine.kv_cache_gb", engine.kv_cache_gb, reason, remedy)
    found = f"{engine.kv_cache_gb} GiB per engine: {int(cache / per_token)} tokens at {per_token} bytes"
    return CheckResult(about="KV cache", found=found)


def device_memory(recipe: Recipe) -> Iterator[CheckResult]:
    """What one device of an engine, and one rank of each training stage, hold; no machine is asked."""
    engine, shape = recipe.engine, shape_of(recipe)
    held = engine_memory(
        shape,
        dtype=engine.dtype,
        kv_cache_gb=engine.kv_cache_gb / engine.tensor_parallel,
        tensor_parallel=engine.tensor_parallel,
    )
    devices = engine.num_engines * engine.tensor_parallel
    yield CheckResult(
        about="engine memory",
        found=f"about {held:.1f} GiB a device, {engine.kv_cache_gb / engine.tensor_parallel:g} of it cache; "
        f"{engine.num_engines} engine(s), {devices} device(s)",
    )
    for stage in recipe.training_stages():
        yield CheckResult(about=f"learner {stage.name}", found=rank_memory(shape, stage))
