"""scripts/bench_verifiers.py: its figures for one verifier without and one with a sandbox, in short."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from box_lab import needs_bubblewrap

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "bench_verifiers.py"


@pytest.mark.slow
def test_the_file_has_the_promised_keys(tmp_path: Path) -> None:
    needs_bubblewrap()
    path = tmp_path / "figures.json"
    command = [sys.executable, str(SCRIPT), "--verifiers", "math", "code", "--seconds", "0.5", "--json"]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    figures = json.loads(path.read_text())
    assert set(figures) == {"math_per_s", "math_overhead", "overhead", "code_per_s"}
    assert figures["math_per_s"] > figures["code_per_s"] > 0, "a box costs more than a comparison"
    assert 0 < figures["overhead"] < 1
