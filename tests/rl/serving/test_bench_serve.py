"""scripts/bench_serve.py at tiny size: its figures, and 20 problems that are served as they are evaluated."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_the_bench_measures_and_finds_no_difference(reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    command = [
        sys.executable, ROOT / "scripts/bench_serve.py", reference / "export",
        "--recipe", ROOT / "recipes/countdown_cpu.yaml", "--json", out, "--requests", "4", "--rounds", "1",
        "--id-for-id", "20", "--calls", "64", "--kv-cache-gb", "0.05",
    ]  # fmt: skip
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found["id_for_id"] == {"problems": 20, "differing": []}
    assert found["served_over_eval"] > 0 and found["first_token_p95_ms_over_engine"] > 0
    # Figures, no bounds: a busy machine decides them. The bound is in test_real_server and test_server.
    assert 0 <= found["cancel_steps"] <= found["cancel_steps_at_once"]
