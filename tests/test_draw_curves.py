"""scripts/draw_curves.py: from metrics of runs to a picture."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "draw_curves.py"


def a_run(folder: Path, accuracy: list[float]) -> Path:
    folder.mkdir()
    rows = [{"stage": "rl", "step": 0, "validation/accuracy": 0.1}]
    rows += [
        {"stage": "rl", "step": step, "accuracy": value, "tokens/critical": 100.0}
        for step, value in enumerate(accuracy, start=1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.medium
def test_two_runs_in_one_picture(tmp_path: Path) -> None:
    runs = [f"{name}={a_run(tmp_path / name, [0.1, 0.3, 0.2])}" for name in ("one", "two")]
    out = tmp_path / "curves.png"
    line = [sys.executable, str(SCRIPT), *runs, "--out", str(out)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes().startswith(b"\x89PNG") and out.stat().st_size > 10_000


@pytest.mark.medium
def test_what_is_no_run(tmp_path: Path) -> None:
    for argument, words in ((str(tmp_path), "NAME=RUN"), (f"a={tmp_path}", "no such file")):
        line = [sys.executable, str(SCRIPT), argument, "--out", str(tmp_path / "x.png")]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


def test_means_over_a_window() -> None:
    spec = importlib.util.spec_from_file_location("draw_curves", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.smooth([1.0, 2.0, 6.0], 2) == [1.0, 1.5, 4.0]
    assert module.smooth([1.0, 2.0, 6.0], 1) == [1.0, 2.0, 6.0]
