"""Section `engine`: number, device and memory of the inference engines."""

from typing import Literal

from pydantic import Field

from data.params import MAY_CHANGE, Params

Precision = Literal["float32", "bfloat16"]
PassPrecision = Literal["auto", "float32", "bfloat16"]
"""Number format of a learner's passes; auto: what this machine computes fast (`rl.preflight.precision`)."""


class EngineConfig(Params):
    """vLLM engines; every engine is one Ray actor with a copy of the weights."""

    num_engines: int = Field(default=1, ge=1, le=4_096, json_schema_extra=MAY_CHANGE)
    """Number of engines; a CPU engine keeps one core busy, a CUDA engine one GPU."""
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", json_schema_extra=MAY_CHANGE)
    """Device of the engines; auto is CUDA where there is a GPU."""
    tensor_parallel: int = Field(default=1, ge=1, le=1_024, json_schema_extra=MAY_CHANGE)
    """Cores or GPUs that each engine is split over; must divide the model's heads."""
    dtype: Precision = "float32"
    """Number format of weights and cache; with float32 engine and learner agree on log-probabilities."""
    kv_cache_gb: float = Field(default=0.25, gt=0, le=1e7, json_schema_extra=MAY_CHANGE)
    """Key-value cache of each engine, in GiB; too small evicts shared prefixes and slows forks down."""
    max_live_calls: int = Field(default=256, ge=1, le=65_536, json_schema_extra=MAY_CHANGE)
    """Calls that each engine decodes at once."""
    block_size: int = Field(default=32, ge=32, multiple_of=32, le=4_096, json_schema_extra=MAY_CHANGE)
    """Tokens per block of the key-value cache; vLLM on CPU takes multiples of 32 only."""
    kv: Literal["recompute", "keep"] = "recompute"
    """Keys and values of calls in flight when new weights arrive. recompute: they are computed again, so
    every recorded log-probability is that of one set of weights. keep: faster; the rest of those calls is
    sampled with new weights from old keys and values. The record is still what was sampled from, but no
    single set of weights reproduces it. Calls that begin later are not affected.
    """
    hang_seconds: float = Field(default=300.0, ge=1, le=1e7, json_schema_extra=MAY_CHANGE)
    """Seconds without a heartbeat after which an engine is replaced."""
    start_seconds: float = Field(default=1800.0, ge=1, le=1e7, json_schema_extra=MAY_CHANGE)
    """Seconds an engine may take to load the model and start before it is replaced."""
