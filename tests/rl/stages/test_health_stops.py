"""A run that cannot learn ends by itself, on the real stack: its message, its exit code, and what is kept.

The model has random weights, and nothing has taught it: no problem is solved, and calls end by chance or at
their limit.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from data.ledger.queries import mishaps
from rl.tracking.metrics import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(600)]

UNTAUGHT = {
    "name": "rl", "kind": "rl", "steps": 50, "groups_per_step": 2, "samples_per_group": 2,
    "learning_rate": 1e-3, "forest_tokens": 512, "checkpoint_every": 1, "keep_checkpoints": 1,
    "drop_zero_variance": False,
}  # fmt: skip
ALLOW_ALL = {"cut_off_share": 1.0, "fork_share": 0.0}
"""Bounds that a model may break in any way."""
REWARD = "rewards=[{name: correct, correct: 1.0, wrong: 0.0, none: 0.0}]"


@pytest.fixture
def stopped(braid: Any, tiny: tuple[str, ...], tmp_path: Path) -> Any:
    """(overrides, changes of the stage) -> (run directory, what the stopped run printed)."""
    general = [item for item in tiny if not item.startswith(("sft.", "rl.", "rewards="))]

    def run(*overrides: str, **changes: Any) -> tuple[Path, str]:
        stages = f"stages={json.dumps([UNTAUGHT | changes])}"
        command = braid.train("countdown_cpu", tmp_path / "run", [*general, REWARD, *overrides, stages])
        assert command.wait() == 1, command.output
        assert command.left_behind() == []
        assert "Traceback" not in command.output
        return tmp_path / "run", command.output

    return run


def reports(run: Path) -> tuple[list[str], dict[str, float]]:
    """Warnings in the ledger, and the longest streak of each condition in the metrics."""
    streaks: dict[str, float] = {}
    for row in read_metrics(run / "metrics.jsonl", "rl"):
        for key, value in row.items():
            if key.startswith("health/"):
                streaks[key] = max(value, streaks.get(key, 0.0))
    return [event.what for event in mishaps(run / "ledger.sqlite", "rl") if event.kind == "health"], streaks


def test_a_filter_that_keeps_nothing(stopped: Any) -> None:
    """Reports at 2, 4 and 8 groups; the run ends at 10, before its first step."""
    run, output = stopped(
        drop_zero_variance=True, health={**ALLOW_ALL, "patience_groups": 10}, groups_per_step=2
    )
    assert "none of the last 10 groups has a learning signal (10 all wrong, 0 all right" in output
    assert "The run ends here (rl.health.patience_groups)" in output
    assert "fix: make the start easier" in output
    warnings, streaks = reports(run)
    assert streaks == {"health/no_signal": 10.0}
    assert [f"last {n} groups" in warning for n, warning in zip((2, 4, 8, 10), warnings, strict=True)]
    assert not list((run / "stages/rl").glob("step-*"))


def test_steps_that_train_nothing(stopped: Any) -> None:
    """Calls are cut off, rewards are equal and few episodes fork: three conditions in one message."""
    bounds = {"cut_off_share": 0.25, "fork_share": 1.0, "patience_steps": 3, "patience_groups": 1000}
    run, output = stopped("protocol.parent_tokens=16", "protocol.child_tokens=16", health=bounds)
    assert "more than 25% of the calls ended at their length limit" in output
    assert "the learner made no update" in output
    assert "fewer than 100.0% of the episodes forked" in output
    assert "protocol.parent_tokens or protocol.child_tokens" in output
    assert "The run ends here (rl.health.patience_steps)" in output
    _, streaks = reports(run)
    assert {key: streaks[key] for key in ("health/cut_off", "health/no_update", "health/no_forks")} == {
        "health/cut_off": 3.0, "health/no_update": 3.0, "health/no_forks": 3.0,
    }  # fmt: skip
    steps = [row["step"] for row in read_metrics(run / "metrics.jsonl", "rl")]
    assert steps[-1] == 3
    assert [path.name for path in (run / "stages/rl").glob("step-*")] == ["step-000003"]
    assert output.count("in each of the last 3 steps the learner made no update") == 1


def test_episodes_that_nobody_grades(stopped: Any) -> None:
    run, output = stopped(reward_seconds=1e-4, health={**ALLOW_ALL, "patience_groups": 2})
    assert "2 all ungraded" in output and "last reason for an ungraded episode: not scored within" in output
    _, streaks = reports(run)
    assert streaks["health/ungraded"] == 2.0
