"""scripts/bench_verifiers.py at tiny size: real processes, the keys it promises."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from box_lab import needs_bubblewrap

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "bench_verifiers.py"


@pytest.mark.medium
@pytest.mark.timeout(120)
def test_every_verifier_is_measured_and_half_of_the_answers_are_right(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    names = ("math", "exact", "json", "ifeval")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--answers", "24", "--json", str(out), "--verifiers", *names],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(out.read_text())
    for name in names:
        assert figures[f"{name}_right"] == 0.5 and figures[f"{name}_per_s"] > 0, name
        assert 0 <= figures[f"overhead_{name}"] <= 1, name
    assert figures["overhead"] == figures["overhead_math"] and figures["answers"] == 24


@pytest.mark.slow
def test_programs_are_measured_in_their_box(tmp_path: Path) -> None:
    needs_bubblewrap()
    out = tmp_path / "figures.json"
    command = [
        sys.executable,
        str(SCRIPT),
        "--answers",
        "8",
        "--json",
        str(out),
        "--verifiers",
        "math",
        "code",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(out.read_text())
    assert {"math_per_s", "code_per_s", "overhead"} <= figures.keys()
    assert figures["code_right"] == 0.5 and figures["code_per_s"] > 0


def test_no_answers_are_refused() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--answers", "0"], capture_output=True, text=True)
    assert done.returncode == 2 and "--answers must be at least 1" in done.stderr
