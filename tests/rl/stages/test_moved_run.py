"""A run goes on with other hardware: other ranks, sharding, engines and reward workers, and back again."""

import signal
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from data.ledger.audit import audit

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(1200)]

SHORT = (
    "sft.steps=12", "rl.steps=6", "rl.validate_every=0", "task.test_problems=4", "rl.minibatches=1",
    "rl.drop_zero_variance=false",
)  # fmt: skip
MOVED = (
    "rl.num_ranks=2", "rl.sharding=fsdp", "engine.num_engines=2", "engine.kv_cache_gb=0.04",
    "rl.reward_workers=2", "engine.hang_seconds=500", "rl.hang_seconds=700",
)  # fmt: skip


def changes(run: Path) -> list[str]:
    """What the ledger says was changed between starts, in order."""
    with sqlite3.connect(run / "ledger.sqlite") as ledger:
        return [row[0] for row in ledger.execute("SELECT what FROM faults WHERE kind = 'change'")]


def newest(run: Path) -> int:
    """Step of the newest checkpoint of the rl stage; 0 without one."""
    return max((int(path.name[5:]) for path in run.glob("stages/rl/step-*")), default=0)


def stop_after_a_checkpoint(command: Any, run: Path) -> None:
    """Ends the command once it has made a checkpoint."""
    before = newest(run)
    command.wait_until(lambda: newest(run) > before)
    command.signal(signal.SIGTERM)
    assert command.wait(120) == 143, command.output
    assert command.left_behind() == []


def test_a_run_moves_to_two_sharded_ranks_and_two_engines_and_back(
    braid: Any, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    home = (*tiny, *SHORT)
    stop_after_a_checkpoint(braid.train("countdown_cpu", run, home), run)
    refused = braid.train("countdown_cpu", run, (*home, "seed=5", "rl.groups_per_step=8"))
    assert refused.wait() == 2
    assert "seed: 0 there, 5 here" in refused.output and "rl.groups_per_step: 4 there" in refused.output

    stop_after_a_checkpoint(braid.train("countdown_cpu", run, (*home, *MOVED)), run)
    moved = changes(run)
    for override in MOVED:
        key, value = override.split("=")
        assert any(f"{key} = {value}" in change for change in moved), (key, moved)

    braid.complete(braid.train("countdown_cpu", run, home))
    back = changes(run)[len(moved) :]
    assert len(back) == len(moved) == len(MOVED)
    assert any("rl.num_ranks = 1, before 2" in change for change in back)
    found = audit(run / "ledger.sqlite", "rl", groups_per_step=4)
    assert found.clean and found.consumed == 6 * 4
    weights = load_file(run / "export" / "model.safetensors")
    start = load_file(run / "stages/sft/model/model.safetensors")
    assert all(np.isfinite(tensor).all() for tensor in weights.values())
    assert any((weights[name] != tensor).any() for name, tensor in start.items())
