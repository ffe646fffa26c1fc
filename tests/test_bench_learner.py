"""scripts/bench_learner.py for real, at tiny size: its variants agree on the loss, or it would not end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "bench_learner.py"


@pytest.mark.slow
@pytest.mark.soak
def test_bench_at_tiny_size(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    size = ("--groups", "1", "--prompt", "48", "--hidden", "32", "--layers", "1", "--repeats", "1")
    line = [sys.executable, str(SCRIPT), "--json", str(file), *size, "--protocols", "outlined_threads"]

    done = subprocess.run(line, capture_output=True, text=True, timeout=200)

    assert done.returncode == 0, done.stderr
    document = json.loads(file.read_text())
    found = document["protocols"]["outlined_threads"]
    assert found["token_ratio"] == found["row_tokens"] / found["unique_tokens"] > 3
    assert found["forest_over_packed"] == found["seconds_packed"] / found["seconds_forest"]
    assert found["memory_over_packed"] == found["memory_mb_forest"] / found["memory_mb_packed"]
    for key in ("token_ratio", "forest_over_packed", "forest_over_padded", "memory_over_packed"):
        assert document[key] == found[key]
    assert "| `outlined_threads` |" in done.stdout


@pytest.mark.slow
@pytest.mark.soak
def test_the_check_for_gpus_runs_anywhere_at_toy_size(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    size = ("--shapes", "tiny", "--prompt", "64", "--output", "16", "--repeats", "1")
    script = SCRIPT.parent / "gpu_check.py"

    done = subprocess.run(
        [sys.executable, str(script), "--json", str(file), *size], capture_output=True, text=True, timeout=100
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())["shapes"]["tiny"]
    assert found["logprob_difference"] < 1e-5 and found["gradient_difference"] < 1e-4
    assert found["token_ratio"] > 3
    assert found["mfu_row"] == pytest.approx(found["mfu_unique"] * found["token_ratio"])
