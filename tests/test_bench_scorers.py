"""scripts/bench_scorers.py at tiny size: a real engine, a real scorer, the keys it promises."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "bench_scorers.py"
TINY = ("model.hidden_size=64", "model.num_layers=2", "model.num_heads=2", "model.num_kv_heads=2",
        "model.intermediate_size=128", "engine.kv_cache_gb=0.05", "engine.device=cpu")  # fmt: skip


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(500)
def test_shared_prefixes_are_computed_once_and_scores_are_equal(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--json", str(out), "--groups", "2", "--completions", "4",
         "--repeats", "1", *(f"--set={each}" for each in TINY)],
        capture_output=True, text=True, timeout=450, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found["mc_shared"]["sampled"] == found["mc_prefixes"]["sampled"] == found["mc_separate"]["sampled"]
    assert found["mc_separate"]["cached"] == 0 < found["mc_prefixes"]["cached"] < found["mc_shared"]["cached"]
    assert found["mc_over_separate"] < 0.75 and found["mc_over_separate"] < found["mc_over_prefixes"] < 1
    assert found["mc_over_separate_seconds"] > 0 < found["scores_per_s"] and found["scorer_over_plain"] > 0


@pytest.mark.medium
def test_a_folder_that_is_missing_is_said() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--json", "/nowhere/a.json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "there is no folder /nowhere" in done.stderr
