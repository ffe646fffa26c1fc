"""Kills over all kinds of processes: each prompt trained once, in order; with S = 0 to the same weights, also
where a scorer is rewarded and killed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data.ledger.queries import staleness_histogram
from rl.tracking.metrics import read_metrics, strip_time

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1150)]

ROOT = Path(__file__).parents[3]
STEPS = 24
KINDS = {"actor", "controller", "engine", "learner", "node", "reward"}


@pytest.fixture(scope="module")
def overrides(tiny: tuple[str, ...]) -> tuple[str, ...]:
    """A longer stage, S = 0, a checkpoint every second step."""
    # Slowly: a model that comes to do the same every time leaves no group with signal.
    longer = (f"rl.steps={STEPS}", "rl.checkpoint_every=2", "rl.validate_every=3", "rl.learning_rate=3e-5")
    return (*tiny, *longer)


@pytest.fixture(scope="module")
def scored(overrides: tuple[str, ...], tiny_scorer: Path) -> tuple[str, ...]:
    """The same, rewarded by what a scorer says of the steps."""
    rewards = next(override for override in overrides if override.startswith("rewards="))
    process = "{name: process, source: scorer, weight: 0.1}"
    return (*overrides, f"{rewards[:-1]}, {process}]", f"scorer={{path: {tiny_scorer}}}")


@pytest.fixture(scope="module")
def undisturbed(trained: Any, scored: tuple[str, ...]) -> Path:
    """The run with a scorer as it is when nothing happens."""
    run: Path = trained("undisturbed", "countdown_cpu", scored)
    return run


def harass(tmp_path: Path, overrides: tuple[str, ...], kinds: set[str], *options: str) -> dict[str, Any]:
    """Runs scripts/chaos.py on `tmp_path / "run"`. -> what it counted: no harm, and kills of all `kinds`."""
    run, figures = tmp_path / "run", tmp_path / "chaos.json"
    command = [
        sys.executable, str(ROOT / "scripts" / "chaos.py"), str(ROOT / "recipes" / "countdown_cpu.yaml"),
        "--run", str(run), "--pause", "0.5", "--seed", "2", "--json", str(figures),
        *options, *(f"--set={override}" for override in overrides),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    log = run.with_name("run.log").read_text()
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log[-4000:]}"
    found: dict[str, Any] = json.loads(figures.read_text())
    for name in ("lost", "duplicated", "out_of_order", "wrong_steps", "disputed", "orphans"):
        assert found[name] == 0, name
    assert found["steps"] == found["planned_steps"] == STEPS
    assert set(found["by_kind"]) == kinds
    assert found["starts"] > 1 and found["rollbacks"] > 0
    return found


def test_kills_of_every_kind_lose_nothing_and_change_nothing(
    undisturbed: Path, scored: tuple[str, ...], tmp_path: Path
) -> None:
    found = harass(tmp_path, scored, KINDS | {"scorer"}, "--kills", "20", "--bursts", "1", "5", "6")
    assert found["kills"] == 20
    # What died is nowhere to be seen in what was learned.
    run = tmp_path / "run"
    assert metrics(run) == metrics(undisturbed)
    assert weights(run) == weights(undisturbed)
    rows = [row for row in metrics(run) if "scorer/mean" in row]
    assert len(rows) == STEPS and all(row["reward/ungraded"] == 0 for row in rows)


@pytest.mark.soak
def test_kills_while_running_ahead_lose_nothing_and_keep_the_bound(
    overrides: tuple[str, ...], tmp_path: Path
) -> None:
    found = harass(tmp_path, (*overrides, "rl.staleness=2"), KINDS, "--kills", "12", "--bursts", "6")
    assert found["kills"] == 12
    lags = staleness_histogram(tmp_path / "run" / "ledger.sqlite", "rl")
    assert 0 < max(lags) <= 2


def metrics(run: Path) -> list[dict[str, Any]]:
    return [strip_time(record) for record in read_metrics(run / "metrics.jsonl")]


def weights(run: Path) -> bytes:
    return (run / "stages/rl/model/model.safetensors").read_bytes()
