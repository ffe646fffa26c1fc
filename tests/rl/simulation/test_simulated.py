"""`braid train --simulate`: one side played from another run's record, everything else real."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from data.episodes.wire import read_episodes
from data.ledger.audit import audit
from rl.tracking.metrics import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(600)]


def simulate(
    braid: Any, tiny: tuple[str, ...], reference: Path, run: Path, side: str, *more: str
) -> list[dict[str, Any]]:
    """Four steps from the reference's supervised weights. -> metrics of the steps."""
    stages = json.loads((reference / "recipe.json").read_text())["stages"]
    rl = next(stage for stage in stages if stage["kind"] == "rl") | {"validate_every": 0}
    model = {"kind": "pretrained", "path": str(reference / "stages/sft/model"), "max_length": 512}
    changes = {"model": model, "stages": [rl]}
    sets = [f"--set={change}" for change in (*tiny, *(f"{k}={json.dumps(v)}" for k, v in changes.items()))]
    recipe = Path(__file__).parents[3] / "recipes" / "countdown_cpu.yaml"
    # As a user names it, who is somewhere else than the run's processes are.
    simulated = ("--simulate", side, "--simulate-from", os.path.relpath(reference, braid.folder))
    braid.complete(braid.start("train", recipe, "--run", run, *simulated, *sets, *more))
    found = audit(run / "ledger.sqlite", "rl", groups_per_step=4)
    assert found.clean and found.consumed == 16
    return [row for row in read_metrics(run / "metrics.jsonl", "rl") if row["step"] > 0]


def said(run: Path) -> set[tuple[tuple[int, ...], ...]]:
    """What the calls of every trained episode sampled."""
    paths = (run / "stages/rl/record").glob("*.episodes.jsonl.gz")
    return {tuple(call.output for call in e.calls) for path in paths for e in read_episodes(path)}


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_a_simulated_learner_takes_its_time_and_learns_nothing(
    braid: Any, tiny: tuple[str, ...], reference: Path, tmp_path: Path
) -> None:
    rows = simulate(braid, tiny, reference, tmp_path / "run", "learner")
    times = [row["time"] for row in rows]
    assert len(times) == 4 and all(time["learner/simulated_s"] > 0 for time in times)
    assert all(time["time/learner_s"] >= time["learner/simulated_s"] for time in times)
    assert all(row["tokens/sampled"] > 0 for row in rows)
    assert weights(tmp_path / "run/stages/rl/model") == weights(tmp_path / "run/start")


def test_simulated_engines_give_the_learner_the_recorded_episodes(
    braid: Any, tiny: tuple[str, ...], reference: Path, tmp_path: Path
) -> None:
    rows = simulate(braid, tiny, reference, tmp_path / "run", "rollout")
    assert len(rows) == 4 and all(row["learner/updates"] > 0 for row in rows)
    assert said(tmp_path / "run") <= said(reference)
    assert weights(tmp_path / "run/stages/rl/model") != weights(tmp_path / "run/start")
