"""The learner again from the record: every weight of a run, also one at S = 2, bit for bit."""

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def replay(run: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "rl.cli", "replay", str(run), *arguments]
    root = Path(__file__).parents[3]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=root)


@pytest.mark.parametrize("stage", ["ahead", "everything"])
def test_a_stale_run_comes_out_as_it_was(stale: Path, stage: str) -> None:
    done = replay(stale, "--stage", stage)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    # A checkpoint after every step, and the final weights.
    assert len(lines) == 6 and all(line.endswith("weights equal bit for bit") for line in lines)
    assert lines[-1].startswith(f"{stage}, after step 6 of 6")


def test_one_changed_reward_is_noticed(stale: Path, tmp_path: Path) -> None:
    """From the step on that trained it, and not before."""
    run = tmp_path / "run"
    shutil.copytree(stale, run)
    path = run / "stages" / "everything" / "record" / "step-000002.scores.json"
    content = json.loads(path.read_text())
    first = next(iter(content["scores"].values()))
    first["reward"] = (first["reward"] or 0.0) + 1.0
    path.write_text(json.dumps(content))
    done = replay(run, "--stage", "everything")
    assert done.returncode == 1
    verdicts = ["equal" in line for line in done.stdout.splitlines()]
    assert verdicts == [True, True, False, False, False, False]


def test_what_cannot_be_replayed(stale: Path, tmp_path: Path) -> None:
    done = replay(stale, "--stage", "eval")
    assert (
        done.returncode == 2
        and "no such rl stage (it has: rl, ahead, everything, guided, primed, pure)" in done.stderr
    )
    run = tmp_path / "run"
    shutil.copytree(stale, run)
    (run / "stages" / "ahead" / "record" / "step-000001.episodes.jsonl.gz").unlink()
    done = replay(run, "--stage", "ahead")
    assert done.returncode == 2 and "step 1 cannot be replayed" in done.stderr
    path = run / "stages" / "everything" / "record" / "step-000000.episodes.jsonl.gz"
    path.write_bytes(gzip.compress(b"{}\n"))
    done = replay(run, "--stage", "everything")
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr
