"""`braid eval` outside a run, on a real engine: all strategies on one model, and what a second start does."""

import json
from pathlib import Path
from typing import Any

import pytest

from rl.config import load_recipe
from rl.config.codec import make_codec
from rl.runtime.rank_worker import build_start
from rl.storage.checksums import write_checksums
from rl.storage.run_directory import RunDirectory
from tests.rl.conftest import Braid

pytestmark = pytest.mark.slow
CPU = Path(__file__).parents[3] / "recipes" / "countdown_sequential_cpu.yaml"
SMALL = (
    "model.hidden_size=64", "model.num_layers=1", "model.num_heads=2", "model.num_kv_heads=1",
    "model.intermediate_size=32", "task.test_problems=4", "task.train_problems=10",
)  # fmt: skip
STEERED = {"cap", "wait", "NoThinking", "refinement", "Parallel-Probe", "SEAT"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of one chain in which nothing is trained: random weights have a cost as any others."""
    recipe = load_recipe(CPU, SMALL)
    directory = RunDirectory(tmp_path / "run")
    directory.open(recipe)
    make_codec(recipe).save(directory.start)
    build_start(recipe.model, directory.start, directory.start, 0)
    write_checksums(directory.start)
    return directory.path


def evaluate(braid: Braid, run: Path, out: Path) -> dict[str, Any]:
    """The document of a small comparison on the initial weights of a run."""
    command = braid.start(
        "eval", run, "--checkpoint", "start", "--problems", "4", "--samples", "4", "--strategies",
        "--set", "max_tokens=48", "--out", out,
    )  # fmt: skip
    braid.complete(command)
    found: dict[str, Any] = json.loads((out / "strategies.json").read_text())
    return found


def test_strategies_on_one_model_are_compared_and_a_second_start_samples_what_is_missing(
    braid: Braid, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = evaluate(braid, run, out)
    costs = ("total_tokens", "critical_tokens", "critical_seconds", "eflops")
    points = {(point["strategy"], point["setting"]): point for point in first["points"]}
    assert {strategy for strategy, _ in points} >= {"majority", "best_of_n", "first_finish", "set_cover"}
    spoken = {strategy for strategy, _ in points} & STEERED
    # The tokenizer of this run has the tags of one chain: what needs `<results>` is left out.
    assert spoken == {"cap", "wait", "NoThinking", "Parallel-Probe"}
    assert all(point[cost] > 0 for point in first["points"] for cost in costs)
    # n samples of one prompt: n times the tokens, and the prompt's keys and values are read once.
    one, four = points["majority", "n = 1"], points["majority", "n = 4"]
    assert four["total_tokens"] == pytest.approx(4 * one["total_tokens"])
    assert one["eflops"] < four["eflops"] < 4 * one["eflops"]
    assert points["NoThinking", "n = 4"]["critical_tokens"] <= 32
    assert points["first_finish", "n = 4"]["critical_tokens"] <= four["critical_tokens"]
    assert {"avg@4", "pass@4", "maj@4", "g-pass@4 (0.75)", "mg-pass@4"} <= first["at_k"].keys()
    assert (out / "strategies.png").stat().st_size > 10_000 and "majority" in (
        out / "strategies.md"
    ).read_text()
    rows = out / "sampled_sequential.jsonl"
    before = rows.read_text()
    lines = before.splitlines(keepends=True)
    rows.write_text("".join(lines[:-2]))
    again = evaluate(braid, run, out)
    output = braid.commands[-1].output
    assert "14/16 episodes (2 from" not in output and "sampled, sequential: 14/16 episodes" in output
    assert "cap" not in output.split("strategy")[0], "what is complete is not sampled again"
    assert again["at_k"] == first["at_k"], "seeds belong to episodes: what is sampled again is the same"
