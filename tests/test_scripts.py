"""The scripts: what they refuse, what they compute from finished runs, and both for real at tiny size."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from data.episodes.trajectory import ThreadOutcome
from data.tasks.registry import build_task
from data.whole_file import write_json
from rl.config import load_recipe
from rl.evaluation.outcome_file import save_outcomes
from rl.evaluation.outcomes import Outcome
from rl.storage.run_directory import RunDirectory

ROOT = Path(__file__).resolve().parents[1]
SPAWN_JOIN, SEQUENTIAL = ROOT / "recipes/countdown_cpu.yaml", ROOT / "recipes/countdown_sequential_cpu.yaml"
TINY = (
    "task.train_problems=64", "task.validation_problems=8", "task.test_problems=8",
    "model.hidden_size=64", "model.num_layers=1", "model.num_heads=2", "model.num_kv_heads=2",
    "engine.kv_cache_gb=0.05",
)  # fmt: skip


def script(name: str, *arguments: object, timeout: float = 60) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


def finished_run(
    out: Path,
    recipe_path: Path,
    seed: int,
    solved: dict[str, int],
    *,
    tokens: int,
    problems: Sequence[str] = ("p0", "p1", "p2", "p3"),
    overrides: Sequence[str] = (),
) -> None:
    """A run, the first `solved` problems right after each stage, each with `tokens` critical tokens."""
    recipe = load_recipe(recipe_path, [*overrides, f"seed={seed}"])
    directory = RunDirectory(out / f"{recipe.protocol.name}-seed{seed}")
    directory.open(recipe)
    for stage in recipe.stages:
        directory.finish(stage.name, {})
    for stage_name, right in solved.items():
        outcomes = [
            Outcome(
                problem_id=problem, sample=0, correct=number < right, total_tokens=2 * tokens,
                critical_tokens=tokens, critical_seconds=1.0, threads=2, unique_threads=2, forked=True,
                depth=1, outcome=ThreadOutcome.RETURNED, answered=True,
            )
            for number, problem in enumerate(problems)
        ]  # fmt: skip
        for kind in ("sampled", "greedy"):
            save_outcomes(directory.stage("eval") / f"{stage_name}.{kind}.jsonl", outcomes, {})
    write_json(directory.path / "accounting.json", {"seconds": 100.0 + seed, "peak_memory_gb": 2.0 + seed})
    line = {"stage": "rl", "step": 10, "validation/accuracy": 0.5, "validation/critical_tokens": tokens}
    (directory.path / "metrics.jsonl").write_text(json.dumps(line) + "\n")


@pytest.mark.medium
def test_the_report_of_two_arms(tmp_path: Path) -> None:
    finished_run(tmp_path, SPAWN_JOIN, 0, {"sft": 1, "rl": 3}, tokens=100)
    finished_run(tmp_path, SPAWN_JOIN, 1, {"sft": 1, "rl": 4}, tokens=100)
    finished_run(tmp_path, SEQUENTIAL, 0, {"sft": 1, "rl": 2}, tokens=200)

    done = script("compare", "--out", tmp_path, "--only-report")

    assert done.returncode == 0, done.stderr
    assert "3 of 6 runs" in done.stdout
    summary = json.loads((tmp_path / "summary.json").read_text())
    # Seeds are averaged: (3 + 4) / 8 after RL, (1 + 1) / 8 before.
    assert summary["arms"]["spawn_join"]["rl"]["accuracy"] == 0.875
    assert summary["gain"]["points"] == 62.5
    assert summary["gain"]["interval"][0] > 0
    assert summary["seeds"]["spawn_join"]["0"]["gain"]["points"] == 50.0
    assert summary["seeds"]["spawn_join"]["1"]["gain"]["points"] == 75.0
    contrast = summary["contrasts"]["sequential"]
    assert (contrast["stage"], contrast["points"], contrast["critical_ratio"]) == ("rl", 37.5, 0.5)
    assert contrast["critical_ratio_interval"] == [0.5, 0.5]
    assert (summary["seconds"], summary["peak_memory_gb"]) == (301.0, 3.0)
    measures = {
        *("accuracy", "interval", "greedy_accuracy", "total_tokens", "critical_tokens", "critical_p90"),
        *("threads", "accuracy_at_critical_budget", "problems"),
    }
    assert measures <= summary["arms"]["sequential"]["sft"].keys()
    table = (tmp_path / "table.md").read_text()
    assert "| spawn_join | rl | 0.875" in table
    assert "RL, spawn_join, seed 1: +75.0 points" in table
    assert (tmp_path / "figure.png").stat().st_size > 10_000


@pytest.mark.medium
def test_finished_runs_are_not_started_again(tmp_path: Path) -> None:
    finished_run(tmp_path, SPAWN_JOIN, 0, {"sft": 1, "rl": 3}, tokens=100)
    finished_run(tmp_path, SEQUENTIAL, 0, {"sft": 1, "rl": 2}, tokens=200)

    done = script("compare", "--out", tmp_path, "--seeds", 0)

    assert done.returncode == 0, done.stderr
    assert "2 of 2 runs" in done.stdout


@pytest.mark.medium
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--only-report",), ("no run is evaluated yet", "fix:")),
        (("--set", "rl.stepz=3"), ("rl.stepz", "countdown_cpu.yaml", "did you mean 'steps'")),
        (("--recipes", "nowhere.yaml"), ("nowhere.yaml",)),
        (("--recipes", SPAWN_JOIN, SPAWN_JOIN), ("--recipes", "'spawn_join'", "fix:")),
        (("--seeds", "-1"), ("seed = -1",)),
        (("--recipes", SPAWN_JOIN, ROOT / "recipes/countdown_apr.yaml", "--seeds", "0"), ("fix:",)),
    ],
)
def test_compare_refuses(tmp_path: Path, arguments: tuple[object, ...], words: tuple[str, ...]) -> None:
    done = script("compare", "--out", tmp_path / "out", *arguments)
    assert_refused(done, "compare", words)
    assert not (tmp_path / "out").exists()


@pytest.mark.medium
def test_compare_refuses_runs_of_another_recipe(tmp_path: Path) -> None:
    finished_run(tmp_path, SPAWN_JOIN, 0, {"sft": 1, "rl": 3}, tokens=100)
    done = script("compare", "--out", tmp_path, "--seeds", 0, "--set", "rl.steps=400")
    assert_refused(done, "compare", ("spawn_join-seed0", "rl.steps: ", "there, 400 here"))


@pytest.mark.medium
def test_compare_refuses_arms_with_other_problems(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(
        f"base: {SPAWN_JOIN}\ntask: {{test_problems: 16}}\nprotocol: {{name: sequential, max_tokens: 440}}\n"
    )
    done = script("compare", "--out", tmp_path / "out", "--recipes", SPAWN_JOIN, other)
    assert_refused(done, "compare", ("other.yaml", "is not evaluated as", "fix:"))


STOPPED = """
import importlib.util, os, signal, sys, threading
spec = importlib.util.spec_from_file_location("compare", sys.argv[1])
compare = importlib.util.module_from_spec(spec)
sys.modules["compare"] = compare
spec.loader.exec_module(compare)
slow = '''
import pathlib, sys, time
try:
    time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path(sys.argv[1]).touch()
    sys.exit(130)
'''
import rl.commands.child
rl.commands.child.braid_command = lambda: [sys.executable, "-c", slow, sys.argv[3]]
threading.Timer(3.0, os.kill, (os.getpid(), signal.SIGINT)).start()
sys.exit(compare.main(["--out", sys.argv[2], "--seeds", "0"]))
"""


@pytest.mark.medium
def test_ctrl_c_stops_the_run_and_says_how_to_go_on(tmp_path: Path) -> None:
    """The run (here a stand-in that sleeps) is told once, is waited for, and the same command is named."""
    marker = tmp_path / "told"
    command = [sys.executable, "-c", STOPPED, ROOT / "scripts/compare.py", tmp_path / "out", marker]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=50)
    assert done.returncode == 130, done.stderr
    assert marker.exists()
    assert f"compare.py --out {tmp_path / 'out'} --seeds 0" in done.stderr


@pytest.mark.medium
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set", "rl.stepz=3"), ("rl.stepz", "did you mean 'steps'")),
        (("--model", "nowhere"), ("nowhere", "model.safetensors", "fix:")),
        (("--recipe", "nowhere.yaml"), ("nowhere.yaml",)),
        (("--groups", 32), ("--groups 32", "too few to keep the engine full", "at least 33")),
    ],
)
def test_bench_refuses(tmp_path: Path, arguments: tuple[object, ...], words: tuple[str, ...]) -> None:
    done = script("bench_rollout", "--json", tmp_path / "bench.json", *arguments)
    assert_refused(done, "bench_rollout", words)
    assert not (tmp_path / "bench.json").exists()


@pytest.mark.medium
def test_bench_refuses_an_output_without_a_folder(tmp_path: Path) -> None:
    done = script("bench_rollout", "--json", tmp_path / "no" / "bench.json")
    assert_refused(done, "bench_rollout", ("no/bench.json", "fix:"))


def assert_refused(done: "subprocess.CompletedProcess[str]", name: str, words: tuple[str, ...]) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stderr.count(f"{name}: ") == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(600)
def test_bench_at_tiny_size(tmp_path: Path, no_leftovers: None) -> None:
    file = tmp_path / "bench.json"
    size = ("--live", 8, "--groups", 17, "--samples", 2, "--repeats", 2)
    sets = [argument for change in TINY for argument in ("--set", change)]

    done = script("bench_rollout", "--json", file, *size, *sets, timeout=280)

    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(file.read_text())
    rates = [[item["tokens"] / item["seconds"] for item in side] for side in found["passes"].values()]
    ratios = [forked / raw for raw, forked in zip(*rates, strict=True)]
    assert found["ratios"] == pytest.approx(ratios)
    assert found["orchestrated_over_raw"] == pytest.approx(sum(ratios) / 2)
    # Every demonstration forks: at least parent, child, parent again.
    assert found["episodes"] == found["forked_episodes"] == 34
    assert found["calls"] >= 3 * 34
    # The same calls on both sides, to the token; what ends after the last was submitted is not counted.
    passes = [item for side in found["passes"].values() for item in side]
    assert {item["all_tokens"] for item in passes} == {found["tokens"]}
    assert all(0 < item["tokens"] < found["tokens"] for item in passes)
    assert [len(passes) for passes in found["passes"].values()] == [2, 2]
    assert 0 < found["mean_live_calls"] <= 8


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(600)
def test_publish_at_small_size(tmp_path: Path, no_leftovers: None) -> None:
    done = script("bench_publish", "--mb", 20, "--repeats", 1, "--json", tmp_path / "f.json", timeout=200)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "f.json").read_text())
    assert 20 < found["mb"] < 80
    assert 0 < found["pause_s"] < found["send_s"]
    # The gap holds the pause: nothing is sampled meanwhile.
    assert found["gap_s"] > found["pause_s"]
    assert found["publish_over_copy"] > 1


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(600)
def test_compare_at_tiny_size(tmp_path: Path, no_leftovers: None) -> None:
    """One arm is finished, the other is trained for real; supervised only, to be quick."""
    out, recipes = tmp_path / "out", [tmp_path / path.name for path in (SPAWN_JOIN, SEQUENTIAL)]
    own = SPAWN_JOIN.read_text()
    recipes[0].write_text(own[: own.index("stages:")] + (
        "stages:\n"
        "  - {name: sft, kind: sft, steps: 2, tokens_per_step: 1024, forest_tokens: 512,\n"
        "     learning_rate: 4e-3, demonstrations: 64, warmup_steps: 1}\n"
        "  - {name: eval, kind: eval, checkpoints: [sft], greedy: false}\n"
    ))  # fmt: skip
    recipes[1].write_text("base: countdown_cpu.yaml\nprotocol: {name: sequential, max_tokens: 440}\n")
    task = build_task(load_recipe(recipes[0], TINY).task.params)
    problems = [problem.id for problem in task.problems("test", 8, 0)]
    finished_run(out, recipes[0], 0, {"sft": 8}, tokens=10, problems=problems, overrides=TINY)
    arguments = ("--out", out, "--seeds", 0, "--recipes", *recipes, "--set", *TINY)

    done = script("compare", *arguments, timeout=280)

    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert summary["arms"]["spawn_join"]["sft"]["accuracy"] == 1.0
    assert summary["arms"]["sequential"]["sft"]["problems"] == 8
    assert summary["contrasts"]["sequential"]["stage"] == "sft"
    assert summary["gain"] is None
    assert summary["seconds"] > 100.0, "the real run's seconds are added to those of the finished one"
    assert "2 of 2 runs" in script("compare", *arguments).stdout
