"""Kinetics' eFLOPs on the episode DAG: computation and memory traffic of sampling, as one number.

Source: Kinetics (arXiv 2506.05333), for N samples of L tokens behind a prompt of C:
    compute = N (2 P L + 2 (2C + L) L H d)         weights, and attention of each new token to all before it
    memory  = 2 (2C + N L) L G d                   bytes of keys and values read, two bytes each; the prompt's
                                                   are read once a step for all N
    eFLOPs  = compute + I * memory
with P weights, H query heads and G key-value heads of size d, summed over layers, and I the device's FLOP per
byte (562: an H100). Weights are not counted as traffic (a batch shares them), nor is the prompt's prefill.

On a DAG the same holds for every tick of the token clock: a call that has C tokens of context and is at its
i-th own adds 2 P + 4 (C + i) H d; calls that are active together read the keys and values of a shared prefix
once, and each reads its own. N calls of one prompt and L tokens give the formulas above.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from safetensors import safe_open

H100_INTENSITY = 562.0
"""FLOP per byte of an H100 (bfloat16), as in the paper."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelShape:
    """Sizes of a model that decide what sampling costs."""

    weights: int
    """P, number of weights."""
    layers: int
    query_heads: int
    """Query heads of one layer."""
    key_value_heads: int
    """Key-value heads of one layer; fewer than query heads with grouped-query attention."""
    head_size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ClockedCall:
    """A call on the token clock (`data.episodes.topology`)."""

    context: tuple[int, ...]
    """[C] ids that the engine was given."""
    begin: float
    """Tick at which it begins."""
    length: float
    """Sampled tokens, hence ticks."""


def eflops(calls: Sequence[ClockedCall], shape: ModelShape, intensity: float = H100_INTENSITY) -> float:
    """eFLOPs of all calls; `intensity` in FLOP per byte. Calls of several episodes may stand side by side."""
    return compute(calls, shape) + intensity * memory(calls, shape)


def compute(calls: Sequence[ClockedCall], shape: ModelShape) -> float:
    """FLOP of all calls: 2 P L + 2 (2C + L) L H d for each.

    Example: P = 10, one head of size 1 in one layer, C = 3, L = 2: 2 * 10 * 2 + 2 * 8 * 2 = 72.
    """
    width = shape.layers * shape.query_heads * shape.head_size
    return sum(
        2 * shape.weights * call.length + 2 * (2 * len(call.context) + call.length) * call.length * width
        for call in calls
    )


def memory(calls: Sequence[ClockedCall], shape: ModelShape) -> float:
    """Bytes of keys and values that are read, of two bytes each.

    Between two ticks at which calls begin or end, U distinct context positions and x_c own tokens of each
    call c are read at every tick: 4 G d (U (b - a) + sum_c (x_c(b)^2 - x_c(a)^2) / 2).
    """
    ticks = sorted({tick for call in calls for tick in (call.begin, call.begin + call.length)})
    read = 0.0
    for start, stop in pairwise(ticks):
        active = [call for call in calls if call.begin <= start and call.begin + call.length >= stop]
        shared = distinct_positions([call.context for call in active])
        own = sum((stop - call.begin) ** 2 - (start - call.begin) ** 2 for call in active)
        read += shared * (stop - start) + own / 2
    return 4 * read * shape.layers * shape.key_value_heads * shape.head_size


def distinct_positions(contexts: Sequence[tuple[int, ...]]) -> int:
    """Positions in the trie of the contexts: a shared prefix counts once.

    Example: (1, 2, 3), (1, 2, 4) and (1, 2): 4.
    """
    total = 0
    before: tuple[int, ...] = ()
    for context in sorted(contexts):
        shared = 0
        for left, right in zip(before, context, strict=False):
            if left != right:
                break
            shared += 1
        total += len(context) - shared
        before = context
    return total


def clipped(calls: Sequence[ClockedCall], until: float) -> list[ClockedCall]:
    """The calls as far as they have got at a tick: what a chain costs that is cancelled then."""
    return [
        ClockedCall(context=call.context, begin=call.begin, length=min(call.length, until - call.begin))
        for call in calls
        if call.begin < until
    ]


def model_shape(model_dir: Path) -> ModelShape:
    """The shape of a Hugging Face directory, from config.json and the headers of its safetensors files.

    Raises OSError, ValueError or KeyError for a directory without them; `check_settings` says so first.
    """
    config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    weights = 0
    for path in sorted(model_dir.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                size = 1
                for side in file.get_slice(name).get_shape():
                    size *= side
                weights += size
    heads = int(config["num_attention_heads"])
    return ModelShape(
        weights=weights,
        layers=int(config["num_hidden_layers"]),
        query_heads=heads,
        key_value_heads=int(config.get("num_key_value_heads") or heads),
        head_size=int(config.get("head_dim") or config["hidden_size"] // heads),
    )
