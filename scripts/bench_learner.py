"""What sharing saves the learner: seconds and memory of a full optimizer step, forest against rows.

    python scripts/bench_learner.py --json FILE

One process, the same calls, the same clipped loss, the same AdamW, taking turns:

  padded    Rows side by side in a batch, filled up to the longest, plain `transformers` with PyTorch's own
            attention and logits of the sampled part only, as TRL's GRPOTrainer computes them.
  packed    Rows behind each other without filling, each a tree of its own: our learner, sharing nothing.
  forest    What the learner does.

The calls are groups of eight episodes, each the demonstration of another of the solver's searches for the
same problem, with a prompt of `--prompt` tokens. Figures are ratios of medians; memory is the growth of a
fresh process's peak over a step.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from data.episodes.trajectory import Episode
from data.forests.collate import ForestBatch, collate
from data.forests.forest import build_forest, pairs, unique_tokens
from data.forests.split import first_fit, split_rows
from data.tasks.countdown import Countdown, CountdownParams
from data.text.build_words import build_tokenizer
from data.text.codec import Codec
from data.text.prompt import Prompt
from rl.algorithms.losses.clip import clip_loss
from rl.learner.attention.interface import NAME
from rl.learner.logprobs import forest_logprobs, score_forests
from rl.learner.policy_rows import LabelTensors, PolicyRow, label_tensors, policy_row
from rollout.demonstrate import demonstrate
from rollout.protocols import build_protocol, default_params, vocabulary

VARIANTS = ("padded", "packed", "forest")
GROUP = 8
MAX_LENGTH = 4096
PROTOCOLS: dict[str, dict[str, Any]] = {
    "outlined_threads": {"main_tokens": 900, "thread_tokens": 200, "budgets": {"width": 8}},
    "parallel_paths": {},
    "spawn_join": {"parent_tokens": 160, "child_tokens": 200, "budgets": {"width": 10}},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Forest:
    """One pass of the packed or forest variant."""

    batch: ForestBatch
    label_tensors: LabelTensors


@dataclass(frozen=True, kw_only=True, slots=True)
class Padded:
    """One pass of the padded variant: B rows of length L."""

    ids: torch.Tensor
    mask: torch.Tensor
    rows: list[PolicyRow]


def main(argv: Sequence[str] | None = None) -> int:
    """-> process exit code."""
    arguments = _parser().parse_args(argv)
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        protocol, variant = arguments.memory_of
        print(memory_of(protocol, variant, arguments))
        return 0
    document: dict[str, Any] = {"model": shape(arguments), "group": GROUP, "groups": arguments.groups}
    document["protocols"] = {name: measure(name, arguments) for name in arguments.protocols}
    shared = [found for name, found in document["protocols"].items() if found["token_ratio"] >= 3.0]
    for key in ("token_ratio", "forest_over_packed", "forest_over_padded", "memory_over_packed"):
        document[key] = min((found[key] for found in shared), default=None)
        if key == "memory_over_packed":
            document[key] = max((found[key] for found in shared), default=None)
    document["growth"] = growth(arguments) if arguments.growth else None
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    print(table(document))
    return 0


def measure(protocol: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds of each variant on one protocol's calls, and the ratios."""
    rows = make_rows(protocol, arguments)
    unique, total = len(build_forest(rows)), sum(map(len, rows))
    steps = {variant: step_of(variant, rows, arguments) for variant in VARIANTS}
    losses = {variant: step() for variant, step in steps.items()}  # also warms up
    spread = max(losses.values()) - min(losses.values())
    assert spread < 1e-4 * max(1.0, abs(losses["padded"])), f"the variants disagree: {losses}"
    times: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for _ in range(arguments.repeats):
        for variant, step in steps.items():
            began = time.perf_counter()
            step()
            times[variant].append(time.perf_counter() - began)
    seconds = {variant: statistics.median(found) for variant, found in times.items()}
    memory = {variant: measured_memory(protocol, variant, arguments) for variant in VARIANTS}
    found = {
        "calls": len(rows),
        "row_tokens": total,
        "unique_tokens": unique,
        "token_ratio": total / unique,
        "forest_over_packed": seconds["packed"] / seconds["forest"],
        "forest_over_padded": seconds["padded"] / seconds["forest"],
        "memory_over_packed": memory["forest"] / memory["packed"],
        **{f"seconds_{variant}": value for variant, value in seconds.items()},
        **{f"memory_mb_{variant}": value for variant, value in memory.items()},
    }
    print(f"{protocol}: " + ", ".join(f"{key} {value:.4g}" for key, value in found.items()), flush=True)
    return found


def make_rows(
    protocol: str, arguments: argparse.Namespace, changes: dict[str, Any] | None = None
) -> list[PolicyRow]:
    """Every call of `--groups` groups as the learner sees it; log-probabilities and advantages are random."""
    task = Countdown(CountdownParams())
    params = default_params(protocol).model_copy()
    params = type(params).model_validate({**params.model_dump(), **(changes or PROTOCOLS.get(protocol, {}))})
    tags, words = vocabulary(params)
    codec = Codec(build_tokenizer([*tags, *words, *task.words()], numbers=99, digits=False))
    machine = build_protocol(params, codec)
    rng = random.Random(arguments.seed)
    known = task.words()
    rows: list[PolicyRow] = []
    for problem in task.problems("train", arguments.groups, 0):
        question = task.prompt(problem).text
        size = arguments.prompt - len(codec.encode(question))
        prompt = Prompt(" ".join([*(rng.choice(known) for _ in range(size)), question]))
        episodes: list[Episode] = []
        while len(episodes) < GROUP:
            tree = task.search(problem, rng)
            found = demonstrate(machine, prompt, tree, id="0", problem_id=problem.id, max_length=MAX_LENGTH)
            if found is not None:
                episodes.append(found)
        for episode in episodes:
            rows += episode_rows(episode, rng, len(rows))
    return rows


def episode_rows(episode: Episode, rng: random.Random, sequence: int) -> list[PolicyRow]:
    """Its calls, as if they had been sampled."""
    rows, advantage = [], rng.gauss(0, 1)
    for call in episode.calls:
        said = replace(call, logprobs=tuple(rng.uniform(-6, -4) for _ in call.output))
        rows.append(
            policy_row(
                episode,
                said,
                weight=1e-3,
                advantages=(advantage,) * call.num_trained,
                sequence=sequence,
            )
        )
    return [row for row in rows if any(row.weights)]


def step_of(variant: str, rows: list[PolicyRow], arguments: argparse.Namespace) -> Callable[[], float]:
    """A full optimizer step over the rows; -> its loss. The learning rate is 0: every step is alike."""
    model = build_model(variant, arguments)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    passes = make_passes(variant, rows, arguments)

    def step() -> float:
        total = 0.0
        for one in passes:
            loss = padded_loss(model, one) if isinstance(one, Padded) else forest_loss(model, one)
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    return step


def make_passes(variant: str, rows: list[PolicyRow], arguments: argparse.Namespace) -> list[Any]:
    """What is computed at once, about as many tokens in every variant."""
    budget = arguments.forest_tokens
    if variant == "forest":
        return [_forest(part, share=True) for part in split_rows(rows, budget)]
    if variant == "packed":
        return [_forest(part, share=False) for part in first_fit([[row] for row in rows], budget)]
    longest = max(map(len, rows))
    size = max(1, budget // longest)
    return [_padded(rows[start : start + size]) for start in range(0, len(rows), size)]


def _forest(part: list[PolicyRow], *, share: bool) -> Forest:
    forest = build_forest(part, share=share)
    return Forest(batch=collate(forest), label_tensors=label_tensors(part, forest))


def _padded(rows: list[PolicyRow]) -> Padded:
    size = max(map(len, rows))
    ids = torch.tensor([[*row.ids, *[0] * (size - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (size - len(row)) for row in rows])
    return Padded(ids=ids, mask=mask, rows=rows)


def forest_loss(model: Any, one: Forest) -> torch.Tensor:
    """The clipped loss of a forest's labels."""
    logprobs, _ = forest_logprobs(model, one.batch)
    return weighted(
        logprobs, one.label_tensors.behaviour, one.label_tensors.advantages, one.label_tensors.weights
    )


def padded_loss(model: Any, one: Padded) -> torch.Tensor:
    """The same for a batch of rows."""
    first = min(row.first for row in one.rows)
    keep = one.ids.shape[1] - first + 1
    logits = model(input_ids=one.ids, attention_mask=one.mask, logits_to_keep=keep).logits[:, :-1].float()
    picked = logits.log_softmax(-1).gather(-1, one.ids[:, first:, None])[..., 0]
    marks = [
        (number, row.first - first + place, row.logprobs[place], row.advantages[place], weight)
        for number, row in enumerate(one.rows)
        for place, weight in enumerate(row.weights)
        if weight
    ]
    number, at, behaviour, advantages, weights = (torch.tensor(values) for values in zip(*marks, strict=True))
    return weighted(picked[number, at], behaviour, advantages, weights)


def weighted(
    logprobs: torch.Tensor, behaviour: torch.Tensor, advantages: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """The loss of every variant."""
    token = clip_loss(logprobs, behaviour, advantages, clip_low=0.2, clip_high=0.2, dual_clip=None)
    return (weights * token.values).sum()


def shape(arguments: argparse.Namespace) -> dict[str, int]:
    """Configuration of the random model."""
    return {
        "hidden_size": arguments.hidden,
        "num_hidden_layers": arguments.layers,
        "num_attention_heads": arguments.hidden // 32,
        "num_key_value_heads": arguments.hidden // 32,
        "head_dim": 32,
        "intermediate_size": 3 * arguments.hidden,
        "vocab_size": 256,
    }


def build_model(variant: str, arguments: argparse.Namespace) -> Any:
    """Random weights, the same for every variant."""
    config = Qwen3Config(**shape(arguments), max_position_embeddings=MAX_LENGTH, tie_word_embeddings=True)
    torch.manual_seed(0)
    name = "sdpa" if variant == "padded" else NAME
    model = AutoModelForCausalLM.from_config(config, attn_implementation=name).float().train()
    model.config.use_cache = False
    if variant != "padded":
        score_forests(model)
    return model


def measured_memory(protocol: str, variant: str, arguments: argparse.Namespace) -> float:
    """MB that a step adds to the peak of a process of its own."""
    command = [sys.executable, __file__, "--memory-of", protocol, variant, "--json", "-"]
    for name in ("groups", "prompt", "forest_tokens", "hidden", "layers", "threads", "seed"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def memory_of(protocol: str, variant: str, arguments: argparse.Namespace) -> float:
    """The other side of `measured_memory`."""
    step = step_of(variant, make_rows(protocol, arguments), arguments)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of loading and making rows
    before = peak_mb()
    step()
    return peak_mb() - before


def peak_mb() -> float:
    """Largest resident memory of this process since it was last forgotten (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def growth(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds per unique token as a batch grows by groups, by depth (longer prompts) and by width; and what a
    token and a query-key pair cost, fitted to all of them.
    """
    sweeps: dict[str, list[dict[str, float]]] = {
        "groups": [point(arguments, groups=groups) for groups in (1, 2, 4, 8)],
        "depth": [point(arguments, prompt=prompt) for prompt in (64, 256, 1024)],
        "width": [point(arguments, width=width) for width in (2, 4, 8)],
    }
    points = [found for sweep in sweeps.values() for found in sweep]
    causes = np.array([[found["computed_tokens"], found["pairs"]] for found in points])
    seconds = np.array([found["seconds"] for found in points])
    # Relative errors, or the largest forest alone would decide.
    (linear, quadratic), *_ = np.linalg.lstsq(causes / seconds[:, None], np.ones(len(seconds)), rcond=None)
    return {"sweeps": sweeps, "cost": {"linear": float(linear), "quadratic": float(max(0.0, quadratic))}}


def point(
    arguments: argparse.Namespace, *, groups: int = 2, prompt: int = 128, width: int = 8
) -> dict[str, float]:
    """Cost of a step over calls of `outlined_threads`."""
    chosen = argparse.Namespace(**{**vars(arguments), "groups": groups, "prompt": prompt})
    changes = {**PROTOCOLS["outlined_threads"], "budgets": {"width": width}}
    rows = make_rows("outlined_threads", chosen, changes)
    parts = [build_forest(part) for part in split_rows(rows, arguments.forest_tokens)]
    unique, seen = unique_tokens(rows), sum(map(pairs, parts))
    computed = sum(map(len, parts))
    step = step_of("forest", rows, chosen)
    step()
    times = []
    for _ in range(arguments.repeats):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    seconds = statistics.median(times)
    found = {
        "groups": groups, "prompt": prompt, "width": width, "unique_tokens": unique,
        "computed_tokens": computed, "pairs": seen, "mean_depth": seen / computed, "seconds": seconds,
        "microseconds_per_token": 1e6 * seconds / unique,
    }  # fmt: skip
    print("growth: " + ", ".join(f"{key} {value:.4g}" for key, value in found.items()), flush=True)
    return found


def table(document: dict[str, Any]) -> str:
    """Markdown, for the docs."""
    lines = [
        "| protocol | row tokens / unique | faster than packed rows | than padded rows | memory of packed |",
        "|---|---|---|---|---|",
    ]
    for name, row in document["protocols"].items():
        ratios = [
            row[key]
            for key in ("token_ratio", "forest_over_packed", "forest_over_padded", "memory_over_packed")
        ]
        lines.append(f"| `{name}` | " + " | ".join(f"{value:.2f}" for value in ratios) + " |")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, required=True, help="file for the figures")
    parser.add_argument("--protocols", nargs="+", default=list(PROTOCOLS))
    parser.add_argument("--groups", type=int, default=2, help="problems")
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a prompt")
    parser.add_argument("--forest-tokens", type=int, default=2048, help="tokens of one pass")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--growth", action="store_true", help="also how time grows, and the cost model")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
