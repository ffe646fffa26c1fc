"""Each tracker's own store holds what metrics.jsonl says: after two sendings, and after a resume."""

import importlib.util
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import pytest
import tracker_lab

from rl import cli
from rl.commands import track
from rl.config.tracking import TrackerName
from rl.storage.identity import make_identity
from rl.tracking import live
from rl.tracking.live import LiveTrackers, TrackerFailure
from rl.tracking.metrics import METRICS_FILE, MetricsWriter
from rl.tracking.trackers.base import TrackedStage
from rl.tracking.trackers.mlflow_run import mlflow_name
from rl.tracking.trackers.names import ALIASES, named
from rl.tracking.trackers.registry import TRACKERS

PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio", "mlflow": "mlflow"}
Rows = list[list[object]]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two stages; the second validates twice."""
    run = tmp_path / "demo"
    run.mkdir()
    make_identity(
        run, {"name": "small", "seed": 0, "stages": []}, fingerprint="0" * 64, files={}, simulated=""
    )
    with MetricsWriter(run, "sft") as metrics:
        metrics.write(0, {"loss": 2.0})
        metrics.write(1, {"loss": float("nan")})
    with MetricsWriter(run, "rl") as metrics:
        metrics.write(0, {})
        metrics.add({"validation/accuracy": 0.0})
        metrics.write(1, {"reward/mean": 0.5, "time/learner_s": 2.0})
        metrics.write(2, {"reward/mean": 0.125})
        metrics.add({"validation/accuracy": 0.5, "time/checkpoint_s": 0.25})
    return run


SENT = {
    "sft": [[0, {"loss": 2.0, "train/loss": 2.0}], [1, {"loss": math.nan, "train/loss": math.nan}]],
    "rl": [
        [0, {"validation/accuracy": 0.0, "val-core/all/acc/mean@1": 0.0, "validation/step": 0.0}],
        [
            1,
            {
                "reward/mean": 0.5, "critic/score/mean": 0.5,
                "time/learner_s": 2.0, "timing_s/update_actor": 2.0,
            },
        ],
        [
            2,
            {
                "reward/mean": 0.125, "critic/score/mean": 0.125, "validation/accuracy": 0.5,
                "val-core/all/acc/mean@1": 0.5, "validation/step": 2.0, "time/checkpoint_s": 0.25,
                "timing_s/save_checkpoint": 0.25,
            },
        ],
    ],
}  # fmt: skip
RESUMED = {
    "sft": SENT["sft"],
    "rl": [
        *SENT["rl"][:2],
        [
            2,
            {
                "reward/mean": 0.75, "critic/score/mean": 0.75, "validation/accuracy": 0.25,
                "val-core/all/acc/mean@1": 0.25, "validation/step": 2.0,
            },
        ],
        [3, {"reward/mean": 1.0, "critic/score/mean": 1.0}],
    ],
}  # fmt: skip
"""Step 2 was made anew, with another validation, and step 3 is new."""


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("tracker", get_args(TrackerName))
def test_the_store_of_a_tracker_holds_what_the_file_says(tracker: str, run: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec(PACKAGES[tracker]) is None:
        pytest.skip(f"{tracker} is not installed: pip install --no-deps -r requirements/trackers.txt")
    done = subprocess.run(
        [sys.executable, tracker_lab.__file__, tracker, str(run)],
        capture_output=True,
        text=True,
        env={**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "WANDB_SILENT": "true"},
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    rename = mlflow_name if tracker == "mlflow" else str
    # Single precision is all that TensorBoard keeps; the values of this run need no more.
    for state, wanted in (("sent", SENT), ("resumed", RESUMED)):
        assert found[state].keys() == wanted.keys()
        for stage, rows in wanted.items():
            renamed = [[step, {rename(k): v for k, v in values.items()}] for step, values in rows]  # type: ignore[union-attr]
            assert repr(_sorted(found[state][stage])) == repr(_sorted(renamed)), (state, stage)


@pytest.mark.slow
@pytest.mark.long
def test_a_stage_that_is_sent_again_at_once_has_a_folder_of_another_name(tmp_path: Path) -> None:
    """Or what closes the earlier one late could write into the new one."""
    pytest.importorskip("wandb", reason="pip install --no-deps -r requirements/trackers.txt")
    script = (
        "import sys, pathlib\n"
        "from rl.tracking.trackers.base import TrackedStage\n"
        "from rl.tracking.trackers.wandb_run import WandbRun\n"
        "run = pathlib.Path(sys.argv[1])\n"
        "stage = TrackedStage(run_dir=run, run_id='r', stage='rl', project='small', recipe={})\n"
        "for _ in range(3):\n"
        "    sent = WandbRun(stage)\n"
        "    sent.send(0, {'a': 1.0})\n"
        "    sent.close()\n"
        "    print(sent.place)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=250,
        env={**os.environ, "WANDB_SILENT": "true"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(set(done.stdout.split("\n")[:3])) == 3
    assert len(list((tmp_path / "trackers/wandb").glob("offline-run-*"))) == 1


def _sorted(rows: Rows) -> Rows:
    """Keys in order, so that two texts can be compared: NaN is not equal to itself."""
    return [[step, dict(sorted(values.items()))] for step, values in rows]  # type: ignore[attr-defined]


def test_names_and_aliases() -> None:
    record = {"stage": "rl", "step": 3, "reward/mean": 0.5, "learner/loss": "inf", "time": {"x_s": 1.0}}
    assert named(record) == {"reward/mean": 0.5, "learner/loss": math.inf, "x_s": 1.0}
    assert named(record, ["trl"]) == {**named(record), "reward": 0.5, "loss": math.inf}
    assert named({"stage": "rl", "step": 3, "validation/accuracy": 1.0}, ["trl", "verl"]) == {
        "validation/accuracy": 1.0, "eval_accuracy": 1.0, "val-core/all/acc/mean@1": 1.0,
        "validation/step": 3.0,
    }  # fmt: skip


def test_names_that_mlflow_takes() -> None:
    assert mlflow_name("val-core/all/acc/mean@1") == "val-core/all/acc/mean_1"
    assert mlflow_name("time/tokens_per_s") == "time/tokens_per_s"
    assert mlflow_name("reward/my(term)") == "reward/my_term_"


def test_the_command_knows_every_tracker() -> None:
    assert tuple(TRACKERS) == get_args(TrackerName) == track.TRACKERS


class Recorder:
    """A tracker that keeps its rows here, and may fail."""

    place = "here"

    def __init__(self, fails_at: int | None = None, hold: threading.Event | None = None) -> None:
        self.rows: list[tuple[int, Mapping[str, float]]] = []
        self.fails_at, self.hold, self.closed = fails_at, hold, False

    def send(self, step: int, values: Mapping[str, float]) -> None:
        if self.hold is not None:
            self.hold.wait(60)
        if step == self.fails_at:
            raise OSError("the server\nis gone")
        self.rows.append((step, dict(values)))

    def close(self) -> None:
        self.closed = True


def stage_of(run: Path) -> TrackedStage:
    return TrackedStage(run_dir=run, run_id="1" * 32, stage="rl", project="p", recipe={})


def test_live_rows_are_whole_and_a_failing_tracker_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = Recorder(), Recorder(fails_at=1)
    trackers = {"tensorboard": lambda stage: good, "wandb": lambda stage: bad}
    monkeypatch.setattr(live, "TRACKERS", trackers)
    failures: list[TrackerFailure] = []
    both = LiveTrackers(["tensorboard", "wandb"], stage_of(tmp_path), failures.append)
    with MetricsWriter(tmp_path, "rl", trackers=both) as metrics:
        for step in range(4):
            metrics.write(step, {"loss": float(step)})
            metrics.add({"x_s": 0.5})
    assert good.rows == [(step, {"loss": float(step), "x_s": 0.5}) for step in range(4)] and good.closed
    assert bad.rows == [(0, {"loss": 0.0, "x_s": 0.5})] and not bad.closed
    (failure,) = failures
    assert failure.tracker == "wandb" and failure.kind == "failed"
    assert failure.message == "OSError: the server is gone" and "braid track" in str(failure)
    assert len((tmp_path / METRICS_FILE).read_text().splitlines()) == 8


def test_a_tracker_that_is_not_installed_or_hangs_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = threading.Event()
    slow = Recorder(hold=hold)
    monkeypatch.setattr(live, "CLOSE_S", 0.05)
    monkeypatch.setattr(live, "TRACKERS", {**TRACKERS, "mlflow": lambda stage: slow})
    monkeypatch.setitem(sys.modules, "trackio.sqlite_storage", None)  # importing it raises ImportError
    failures: list[TrackerFailure] = []
    both = LiveTrackers(["trackio", "mlflow"], stage_of(tmp_path), failures.append)
    with MetricsWriter(tmp_path, "rl", trackers=both) as metrics:
        metrics.write(0, {"loss": 1.0})
    hold.set()
    assert {(failure.tracker, failure.kind) for failure in failures} == {
        ("trackio", "failed"),
        ("mlflow", "late"),
    }
    assert any("requirements/trackers.txt" in failure.message for failure in failures)


def test_bad_input(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["track", str(tmp_path), "--to", "tensorboard"]) == 2
    assert "is not a run directory" in capsys.readouterr().err
    (run / METRICS_FILE).unlink()
    assert cli.main(["track", str(run), "--to", "tensorboard"]) == 2
    assert "once training has started" in capsys.readouterr().err


def test_the_documented_table_of_names_is_the_code_s() -> None:
    text = (Path(__file__).parents[3] / "docs/tracking.md").read_text()
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    table = rows[rows.index(["Braid", "TRL", "verl"]) + 2 :]
    assert table == [[key, names.get("trl", ""), names.get("verl", "")] for key, names in ALIASES.items()]
