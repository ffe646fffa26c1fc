"""scripts/compare_protocols.py: what it trains and evaluates, and the table it makes of finished runs."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from data.episodes.trajectory import ThreadOutcome
from rl.evaluation.outcome_file import save_outcomes
from rl.evaluation.outcomes import Outcome
from rl.storage.run_directory import RunDirectory

SCRIPT = Path(__file__).parents[1] / "scripts" / "compare_protocols.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare_protocols", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def command(*arguments: object) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60)


def outcome(problem: int, correct: bool, total: int, critical: int) -> Outcome:
    return Outcome(
        problem_id=f"p{problem}", sample=0, correct=correct, total_tokens=total, critical_tokens=critical,
        critical_seconds=1.0, threads=1, unique_threads=1, forked=True, depth=1,
        outcome=ThreadOutcome.RETURNED, answered=True,
    )  # fmt: skip


def finish(script: ModuleType, out: Path, arguments: Any) -> None:
    """Runs of every format, all done. A setting costs 100 tokens more than the one before, half of them in a
    row, and solves one problem of four more.
    """
    for learned in script.LEARNED:
        recipe = script.recipe_of(learned, arguments)
        directory = RunDirectory(out / learned)
        directory.open(recipe)
        for stage in recipe.stages:
            directory.finish(stage.name, {})
            if stage.kind == "eval":
                number = int(stage.name.rsplit("_", 1)[1])
                total = 100 * (number + 1)
                found = [outcome(p, p < number, total, total // 2) for p in range(4)]
                save_outcomes(directory.stage(stage.name) / "sft.sampled.jsonl", found, {})


def test_each_format_is_trained_once_and_evaluated_in_every_setting(
    script: ModuleType, tmp_path: Path
) -> None:
    arguments = script._parser().parse_args(["--json", str(tmp_path / "f.json")])
    settings = 0
    for learned in script.LEARNED:
        recipe = script.recipe_of(learned, arguments)
        assert [stage.kind for stage in recipe.stages if stage.kind != "eval"] == ["sft"]
        assert recipe.protocol.name == learned
        settings += sum(stage.kind == "eval" for stage in recipe.stages)
    assert settings == sum(len(arm.settings) for arm in script.ARMS)
    names = {arm.name for arm in script.ARMS}
    assert names == {"sequential", "self_consistency", "spawn_join", "outlined_threads", "rounds"}
    trained = script._parser().parse_args(["--json", str(tmp_path / "f.json"), "--rl-steps", "7"])
    stages = script.recipe_of("rounds", trained).stages
    assert [stage.steps for stage in stages if stage.kind == "rl"] == [7]
    assert {stage.checkpoints for stage in stages if stage.kind == "eval"} == {("rl",)}


@pytest.mark.medium
def test_the_table_of_finished_runs(script: ModuleType, tmp_path: Path) -> None:
    out, file = tmp_path / "runs", tmp_path / "f.json"
    given = ["--json", file, "--out", out, "--total", 100, 150, 900, "--critical", 75]
    finish(script, out, script._parser().parse_args([str(value) for value in given]))

    done = command(*given)

    assert done.returncode == 0, done.stderr
    document = json.loads(file.read_text())
    # Settings at (100, 0), (200, 1/4), ...: half way between the first two at 150; nobody spends 900.
    for rows in document["total"].values():
        assert rows["100.0"]["accuracy"] == 0.0 and rows["150.0"]["accuracy"] == 0.125
        assert rows["150.0"]["interval"][0] <= 0.125 <= rows["150.0"]["interval"][1]
        assert rows["900.0"] is None
    assert {rows["75.0"]["accuracy"] for rows in document["critical"].values()} == {0.125}
    assert document["points"]["rounds"][1]["critical_tokens"] == 100
    assert "| spawn_join | 0.000" in done.stdout and "| - |" in done.stdout


@pytest.mark.medium
def test_a_wrong_override_is_named(tmp_path: Path) -> None:
    done = command("--json", tmp_path / "f.json", "--out", tmp_path / "runs", "--set", "sft.stepz=3")
    assert done.returncode == 2
    assert "sft.stepz" in done.stderr and "did you mean 'steps'" in done.stderr
    assert "Traceback" not in done.stderr
