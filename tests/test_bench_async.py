"""scripts/bench_async.py: what it refuses, and all of it for real at tiny size, TRL's trainer included."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rl.config import load_recipe
from rl.storage.checksums import write_checksums
from rl.storage.run_directory import RunDirectory

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes/countdown_sequential_cpu.yaml"
TINY = (
    "task.train_problems=64", "task.validation_problems=4", "task.test_problems=8",
    "protocol.max_tokens=16", "engine.device=cpu", "engine.kv_cache_gb=0.05", "engine.max_live_calls=16",
    "rl.groups_per_step=2", "rl.samples_per_group=2", "rl.minibatches=2", "rl.checkpoint_every=100",
    "rl.warmup_steps=0",
)  # fmt: skip


def bench(*arguments: object, timeout: float = 60) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "scripts/bench_async.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


def supervised(folder: Path, model_dir: Path) -> Path:
    """A run that ends with the random weights in `model_dir`."""
    recipe = load_recipe(RECIPE, TINY)
    directory = RunDirectory(folder)
    directory.open(recipe)
    shutil.copytree(model_dir, directory.stage("sft") / "model")
    write_checksums(directory.stage("sft") / "model")
    directory.finish("sft", {})
    return folder


@pytest.mark.medium
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set", "rl.stepz=3"), ("rl.stepz", "did you mean 'steps'")),
        (("--recipe", ROOT / "recipes/countdown_cpu.yaml"), ("spawn_join", "--parts staleness", "fix:")),
        (("--trl-steps", 2, "--warmup", 2), ("--warmup 2", "fix:")),
        (("--parts", "simulated"), ("--parts simulated", "fix:")),
        (("--out", ROOT), ("is not empty", "fix:")),
        (("--from", ROOT / "nowhere"), ("nowhere", "no final weights")),
    ],
)
def test_bench_refuses(tmp_path: Path, arguments: tuple[object, ...], words: tuple[str, ...]) -> None:
    done = bench("--json", tmp_path / "bench.json", *arguments)

    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert not (tmp_path / "bench.json").exists()


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(600)
def test_bench_at_tiny_size(tmp_path: Path, tiny_model_dir: Path, no_leftovers: None) -> None:
    file, run = tmp_path / "bench.json", supervised(tmp_path / "run", tiny_model_dir)
    parts = ("--parts", "staleness", "simulated", "trl", "--staleness", 1, "--no-colocate")
    size = (*parts, "--steps", 3, "--trl-steps", 3, "--problems", 4, "--threads", 1)
    sets = [argument for change in TINY for argument in ("--set", change)]

    done = bench("--json", file, "--from", run, *size, *sets, timeout=500)

    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(file.read_text())
    assert found["steps_per_hour"].keys() == found["idle"].keys() == {"1"}
    assert min(found["steps_per_hour"].values()) > 0
    for idle in found["idle"].values():
        assert 0 <= idle["engine"] < 1 and 0 < idle["learner"] < 1
        assert sum(idle["waits"].values()) == pytest.approx(1)
    # Three steps of four episodes of at most 16 tokens.
    assert found["staleness"]["1"].keys() == {"0", "1"}
    assert 0 < sum(found["staleness"]["1"].values()) <= 3 * 4 * 16
    for accuracy in found["accuracy"].values():
        (once,) = accuracy["rounds"]
        (first, _), *_, (last, _) = once["validation"]
        assert first == 0 < last
    simulated = found["simulated_learner"]
    assert simulated["steps_per_hour"].keys() == simulated["idle"].keys() == {"1"}
    assert simulated["steps_per_hour"]["1"] > 0
    assert 0 <= simulated["idle"]["1"]["engine"] < 1
    rates = found["samples_per_s"]
    assert rates.keys() == {"braid", "trl_default"} and min(rates.values()) > 0
    assert found["over_trl_default"] == pytest.approx(rates["braid"] / rates["trl_default"])
    assert "over_trl_colocate" not in found, "it was left out"
