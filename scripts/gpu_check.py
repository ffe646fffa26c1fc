"""The learner on this machine's device: exactness, throughput and memory, forest against rows.

    python scripts/gpu_check.py --json FILE                      Qwen3-0.6B and a 4B shape, on CUDA
    python scripts/gpu_check.py --json FILE --shapes tiny        a toy, also without a GPU

Random weights of a published shape; groups of eight calls that fork off one prompt. Exactness is float32
against one plain forward and backward pass a row. Throughput is forward and backward passes in bfloat16,
after a warm-up, in row tokens (what the calls hold) and unique tokens (what the forest computes); model FLOP
utilisation counts 6 FLOPs a weight and token, on either count, against `--peak-tflops`.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from data.forests.collate import ForestBatch, collate
from data.forests.forest import build_forest
from data.forests.rows import Row
from rl.learner.attention.interface import NAME
from rl.learner.logprobs import forest_logprobs, score_forests

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "head_dim": 32, "intermediate_size": 128, "vocab_size": 512,
    },
    "qwen3-0.6b": {
        "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8,
        "head_dim": 128, "intermediate_size": 3072, "vocab_size": 151936,
    },
    "qwen3-4b": {
        "hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8,
        "head_dim": 128, "intermediate_size": 9728, "vocab_size": 151936,
    },
}  # fmt: skip
EXACT_LAYERS = 2
"""Depth of the float32 comparison: a plain pass a row of a whole model would take its memory twice."""


def main(argv: Sequence[str] | None = None) -> int:
    """-> process exit code."""
    arguments = _parser().parse_args(argv)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = False
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    document: dict[str, Any] = {"device": name, "shapes": {}}
    for shape in arguments.shapes:
        found = {**exactness(SHAPES[shape], device), **speed(SHAPES[shape], device, arguments)}
        document["shapes"][shape] = found
        print(f"{shape} on {name}: " + ", ".join(f"{k} {v:.4g}" for k, v in found.items()), flush=True)
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    worst = max(found["logprob_difference"] for found in document["shapes"].values())
    return 0 if worst < 1e-4 else 1


def forking_rows(rng: random.Random, *, prompt: int, output: int, calls: int, vocabulary: int) -> list[Row]:
    """One group: every call shares the prompt and forks off an earlier call at a random place."""
    ids = [tuple(rng.randrange(vocabulary) for _ in range(prompt))]
    rows = []
    for _ in range(calls):
        base = rng.choice(ids)
        start = base[: rng.randint(prompt, len(base))]
        said = tuple(rng.randrange(vocabulary) for _ in range(output))
        ids.append(start + said)
        rows.append(Row(ids=start + said, first=len(start), weights=(1.0,) * output))
    return rows


def build(shape: dict[str, Any], attention: str, device: torch.device, dtype: torch.dtype) -> Any:
    """The same random weights whatever attends."""
    config = Qwen3Config(**shape, max_position_embeddings=32768, tie_word_embeddings=True)
    torch.manual_seed(0)
    with device:
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=dtype)
    model.config.use_cache = False
    return model.train()


def exactness(shape: dict[str, Any], device: torch.device) -> dict[str, float]:
    """Largest differences of log-probabilities, and of any gradient (relative), in float32."""
    small = {**shape, "num_hidden_layers": min(EXACT_LAYERS, shape["num_hidden_layers"])}
    rng = random.Random(0)
    rows = forking_rows(rng, prompt=96, output=64, calls=8, vocabulary=shape["vocab_size"])
    plain = build(small, "sdpa", device, torch.float32)
    expected = []
    for row in rows:
        ids = torch.tensor([row.ids], device=device)
        logp = plain(ids).logits[0, row.first - 1 : -1].float().log_softmax(-1)
        picked = logp.gather(-1, ids[0, row.first :, None])[:, 0]
        picked.sum().backward()
        expected.append(picked.detach().cpu())
    gradients = [parameter.grad.cpu() for parameter in plain.parameters()]
    del plain
    model = build(small, NAME, device, torch.float32)
    score_forests(model)
    forest = build_forest(rows)
    logprobs, _ = forest_logprobs(model, collate(forest).to(device))
    logprobs.sum().backward()
    places = zip(forest.labels.rows, forest.labels.outputs, strict=True)
    told = torch.stack([expected[row][place] for row, place in places])
    far = [
        float((parameter.grad.cpu() - other).norm() / other.norm().clamp(min=1e-6))
        for parameter, other in zip(model.parameters(), gradients, strict=True)
    ]
    return {
        "logprob_difference": float((logprobs.detach().cpu() - told).abs().max()),
        "gradient_difference": max(far),
    }


def speed(shape: dict[str, Any], device: torch.device, arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds and memory of a forward and backward pass: the forest, and the same rows sharing nothing."""
    model = build(shape, NAME, device, torch.float32)
    score_forests(model)
    weights = sum(parameter.numel() for parameter in model.parameters())
    rng = random.Random(1)
    rows = forking_rows(
        rng, prompt=arguments.prompt, output=arguments.output, calls=8, vocabulary=shape["vocab_size"]
    )
    found: dict[str, float] = {}
    for name, share in (("forest", True), ("rows", False)):
        forest = build_forest(rows, share=share)
        batch = collate(forest).to(device)
        seconds, memory = _timed(partial(_pass, model, batch), device, arguments.repeats)
        found[f"{name}_seconds"] = seconds
        found[f"{name}_memory_gb"] = memory
        found[f"{name}_tokens"] = len(forest)
    found["token_ratio"] = found["rows_tokens"] / found["forest_tokens"]
    found["forest_over_rows"] = found["rows_seconds"] / found["forest_seconds"]
    for basis in ("forest", "rows"):
        rate = found[f"{basis}_tokens"] / found["forest_seconds"]
        key = "unique" if basis == "forest" else "row"
        found[f"{key}_tokens_per_s"] = rate
        found[f"mfu_{key}"] = 6 * weights * rate / (arguments.peak_tflops * 1e12)
    return found


def _pass(model: Any, batch: ForestBatch) -> None:
    logprobs, _ = forest_logprobs(model, batch, bfloat16=True)
    (-logprobs.mean()).backward()
    model.zero_grad(set_to_none=True)


def _timed(work: Callable[[], None], device: torch.device, repeats: int) -> tuple[float, float]:
    """-> (median seconds, peak GB; 0 without a GPU)."""
    work()
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(repeats):
        if cuda:
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2], torch.cuda.max_memory_allocated() / 1e9 if cuda else 0.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, required=True, help="file for the figures")
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=["qwen3-0.6b", "qwen3-4b"])
    parser.add_argument("--prompt", type=int, default=512, help="shared tokens of a group")
    parser.add_argument("--output", type=int, default=256, help="sampled tokens of a call")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--peak-tflops", type=float, default=989.0, help="peak of the device in bfloat16 (H100/H200)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
