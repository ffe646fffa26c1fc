"""Stages of the recipes prime_countdown and pure_countdown at tiny size: PRIME's metrics, record, checkpoints
and replay, and PURE's rewards.
"""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from rl.learner.replay import replay
from rl.tracking.metrics import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_it_is_measured_recorded_and_kept(stale: Path) -> None:
    folder = stale / "stages" / "primed"
    rows = [row for row in read_metrics(stale / "metrics.jsonl", "primed") if row["step"] > 0]
    assert [row["implicit/version"] for row in rows] == [0, 1, 2]
    assert rows[0]["implicit/loss"] == pytest.approx(0.693147, abs=1e-5) and rows[0]["implicit/reward"] == 0
    assert rows[-1]["implicit/loss"] < rows[0]["implicit/loss"] and rows[-1]["implicit/reward"] != 0
    assert all(0 <= row["implicit/accuracy"] <= 1 and row["learner/updates"] > 0 for row in rows)
    assert not any("checksum" in name for row in rows for name in row)
    recorded = [
        json.loads((folder / "record" / f"step-{step:06d}.scores.json").read_text())["implicit"]
        for step in range(3)
    ]
    assert [found["version"] for found in recorded] == [0, 1, 2]
    assert len({found["checksum"] for found in recorded}) == 3
    assert int(load_file(folder / "step-000003" / "implicit.safetensors")["updates"]) == 3
    assert not (folder / "model" / "implicit.safetensors").exists(), "it is no part of the policy"


def test_it_is_replayed_to_the_bit_and_a_changed_outcome_is_noticed(
    stale: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed = replay(stale, "primed"), capsys.readouterr().out
    assert code == 0, printed
    assert [line.endswith("weights equal bit for bit") for line in printed.splitlines()] == [True] * 3
    run = tmp_path / "run"
    shutil.copytree(stale, run)
    path = run / "stages" / "primed" / "record" / "step-000000.scores.json"
    content = json.loads(path.read_text())
    first = next(iter(content["scores"].values()))
    first["correct"] = not first["correct"]  # the implicit model alone learns from it
    path.write_text(json.dumps(content))
    assert replay(run, "primed") == 1
    lines = capsys.readouterr().out.splitlines()
    assert "another from" not in lines[0] and "(in " in lines[0], "the checkpoint after the step differs"
    assert all("the implicit reward model was another from step 2 on" in line for line in lines[1:])


def test_steps_are_rewarded_in_pures_form(stale: Path) -> None:
    """p(right) - p(wrong), weighted by softmax(-reward / 0.1): their sum is about the worst step's."""
    folder = stale / "stages" / "pure" / "record"
    rows = [row for row in read_metrics(stale / "metrics.jsonl", "pure") if row["step"] > 0]
    assert len(rows) == 3 and all(row["learner/updates"] > 0 and row["scorer/missing"] < 12 for row in rows)
    scores = json.loads((folder / "step-000000.scores.json").read_text())["scores"].values()
    assert {score["reward"] for score in scores} <= {0.0, -1.0}
    judged = [score for score in scores if score["placed"]]
    for score in judged:
        steps = [value for term, _, _, _, value in score["placed"] if term == "process"]
        assert all(-1 <= value <= 1 for value in steps)
        # A mean with most weight on the worst: it is at most the mean, whose p(right) is the opinion.
        assert -1 <= sum(steps) <= 2 * score["opinion"] - 1 + 1e-9
    assert judged
