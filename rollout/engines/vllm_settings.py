"""Settings of one vLLM engine, and their checks that do not import vLLM."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from data.errors import ConfigError

GIB = 1024**3
PROCESS_GB = 1.5
"""Memory of an engine's two processes besides weights and KV cache, as measured on CPU."""
CPU_HEAD_DIMS = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""Head sizes that vLLM 0.32's CPU attention kernel is compiled for."""

Dtype = Literal["float32", "bfloat16"]
Device = Literal["auto", "cpu", "cuda"]
KeyValues = Literal["recompute", "keep"]


@dataclass(frozen=True, kw_only=True, slots=True)
class VllmSettings:
    """Settings of one engine, checked by `check_settings`."""

    model_dir: Path
    """A directory from `save_pretrained`: config.json and safetensors; a tokenizer only for `text_stops`."""
    max_length: int
    """Longest context + output of one call, in tokens."""
    dtype: Dtype = "float32"
    kv_cache_gb: float = 0.25
    """Key-value cache in GiB. Below max_live_calls x length x bytes per token, calls may be recomputed."""
    max_live_calls: int = 256
    """Most calls in one step of the model; further calls wait."""
    block_size: int = 32
    """Tokens per KV block, a multiple of 32 on CPU; prefixes are shared in whole blocks."""
    seed: int = 0
    """Seed of the engine itself; sampling uses each request's own seed."""
    threads: int = 1
    """CPU threads of the model; more than one was slower on small models."""
    tensor_parallel: int = 1
    """Ranks that the model is split over, each a process with `threads` threads or a GPU of its own."""
    device: Device = "auto"
    version: int = 0
    """Version of the weights in `model_dir`."""
    kv: KeyValues = "recompute"
    """Treatment of cached keys and values when weights are published; see `EngineConfig.kv`."""
    text_stops: bool = False
    """Whether calls can end on strings (tags that are ordinary text); needs the tokenizer."""
    vocabulary: int | None = None
    """Number of ids that exist (the tokenizer's); no other is sampled, and probabilities are normalised over
    these. None: every row of the model's output layer.
    """
    batch_invariant: bool | None = None
    """Whether a call's bits depend only on seed and weights, not on its batch. None: yes on CPU, no on CUDA.
    """


def resolve_device(device: Device) -> Literal["cpu", "cuda"]:
    """The device that a setting means: `auto` is `cuda` where torch has one, else `cpu`."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def check_settings(settings: VllmSettings, where: str = "engine") -> None:
    """Raises ConfigError: the setting, why it cannot work, what to do. Cheap: reads config.json only."""

    def fail(key: str, what: str) -> None:
        raise ConfigError(f"{where}.{key}: {what}")

    config = read_config(settings.model_dir, where)
    longest = config.get("max_position_embeddings", settings.max_length)
    if settings.max_length < 2:
        fail("max_length", f"{settings.max_length} leaves no room for a context and an output token")
    if settings.max_length > longest:
        fail("max_length", f"{settings.max_length} is more than the model's {longest} positions; lower it")
    if settings.max_live_calls < 1 or settings.threads < 1:
        fail("max_live_calls", "max_live_calls and threads must be at least 1")
    if settings.vocabulary is not None and settings.vocabulary > config["vocab_size"]:
        fail(
            "vocabulary",
            f"the tokenizer has {settings.vocabulary} ids, the model {config['vocab_size']} rows for them; "
            "give it rows (resize_token_embeddings), or the tokenizer that it was saved with",
        )
    problem = split_problem(config, settings.tensor_parallel)
    if problem is not None:
        fail("tensor_parallel", problem)
    device = resolve_device(settings.device)
    if device == "cpu":
        if settings.block_size < 32 or settings.block_size % 32:
            fail("block_size", f"{settings.block_size}: the CPU kernel needs a multiple of 32")
        if _head_dim(config) not in CPU_HEAD_DIMS:
            fail("model_dir", f"head size {_head_dim(config)}: the CPU kernel has only {CPU_HEAD_DIMS}")
    token = kv_bytes_per_token(config, settings.dtype)
    needed = least_kv_bytes(settings.max_length, settings.block_size, token)
    if settings.kv_cache_gb * GIB < needed:
        fail(
            "kv_cache_gb",
            f"{settings.kv_cache_gb} GiB is less than the {needed / GIB:.4g} of one call of max_length",
        )
    free = psutil.virtual_memory().available / GIB
    processes_gb = PROCESS_GB * settings.tensor_parallel
    if device == "cpu" and settings.kv_cache_gb + processes_gb > free:
        fail(
            "kv_cache_gb",
            f"{settings.kv_cache_gb} GiB and about {processes_gb} GiB for the engine do not fit into the "
            f"{free:.1f} GiB of free memory; lower kv_cache_gb or the number of engines",
        )


def split_problem(config: dict[str, Any], ranks: int) -> str | None:
    """Reason why a model cannot be split over so many ranks, or None. Heads and MLP are split evenly."""
    heads = config["num_attention_heads"]
    parts = {
        "attention heads": heads,
        "key-value heads": config.get("num_key_value_heads") or heads,
        "MLP columns (intermediate_size)": config.get("intermediate_size") or ranks,
    }
    for name, count in parts.items():
        if count % ranks:
            return f"{ranks} ranks cannot share the model's {count} {name} evenly; use a divisor of {count}"
    return None


def least_kv_bytes(max_length: int, block_size: int, token_bytes: int) -> int:
    """Bytes of the smallest key-value cache that an engine starts with: one longest call in whole blocks, and
    one block that the engine keeps for itself.
    """
    return (-(-max_length // block_size) + 1) * block_size * token_bytes


def kv_bytes_per_token(config: dict[str, Any], dtype: Dtype) -> int:
    """Bytes of one token's keys and values: 2 x layers x KV heads x head size x element size."""
    heads = config.get("num_key_value_heads") or config["num_attention_heads"]
    size = {"float32": 4, "bfloat16": 2}[dtype]
    return int(2 * config["num_hidden_layers"] * heads * _head_dim(config) * size)


def episodes_that_fit(settings: VllmSettings) -> int:
    """Number of episodes that the key-value cache holds at full length, each as one call; at least one."""
    token = kv_bytes_per_token(read_config(settings.model_dir), settings.dtype)
    fitting = int(settings.kv_cache_gb * GIB) // (token * settings.max_length)
    return max(1, min(fitting, settings.max_live_calls))


def _head_dim(config: dict[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def read_config(model_dir: Path, where: str = "engine") -> dict[str, Any]:
    """config.json of a model directory. Raises ConfigError when it is not one of a plain decoder."""
    path = model_dir / "config.json"
    try:
        config = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{where}.model_dir: {path} cannot be read; was the model saved there?") from error
    except ValueError as error:
        raise ConfigError(f"{where}.model_dir: {path} is not JSON ({error}); save the model again") from error
    lacking = {"num_hidden_layers", "num_attention_heads", "hidden_size", "vocab_size"} - config.keys()
    if lacking:
        raise ConfigError(
            f"{where}.model_dir: {path} lacks {sorted(lacking)}; only plain decoders are served"
        )
    return dict(config)
