"""The inference engines: how many, where, and how much memory each may take."""

from typing import Literal

from pydantic import Field

from data.params import MAY_CHANGE, Params

Precision = Literal["float32", "bfloat16"]


class EngineConfig(Params):
    """vLLM engines; every engine is one Ray actor with a copy of the weights."""

    num_engines: int = Field(default=1, ge=1, le=4_096, json_schema_extra=MAY_CHANGE)
    """Engines that share the rollouts; a CPU engine keeps one core busy, a CUDA engine one GPU."""
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", json_schema_extra=MAY_CHANGE)
    """auto takes CUDA where there is a GPU."""
    dtype: Precision = "float32"
    """Of weights and key-value cache; float32 makes the engine's log-probabilities equal the learner's."""
    kv_cache_gb: float = Field(default=0.25, gt=0, le=100_000, json_schema_extra=MAY_CHANGE)
    """Key-value cache of each engine, in GiB; too small evicts shared prefixes and slows forks down."""
    max_live_calls: int = Field(default=256, ge=1, le=65_536, json_schema_extra=MAY_CHANGE)
    """Calls decoded at once by each engine."""
    block_size: int = Field(default=32, ge=32, multiple_of=32, le=4_096, json_schema_extra=MAY_CHANGE)
    """Tokens per block of the key-value cache; vLLM on CPU takes multiples of 32 only."""
    kv: Literal["recompute", "keep"] = "recompute"
    """When weights are published, keys and values of the calls in flight are computed again, so that every
    recorded log-probability is that of one set of weights; or they are kept, which is faster and samples the
    rest of those calls by the new weights from what the old ones had read. What is recorded is still what was
    sampled from, but no weights reproduce it. Calls that begin later see nothing of the old weights.
    """
    hang_seconds: float = Field(default=300.0, ge=1, le=1e7, json_schema_extra=MAY_CHANGE)
    """An engine that gives no sign of life for so long (seconds) is ended and replaced."""
    start_seconds: float = Field(default=1800.0, ge=1, le=1e7, json_schema_extra=MAY_CHANGE)
    """So is one that has not loaded the model and come up after so long."""
