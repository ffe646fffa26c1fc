"""A run is sent to one tracker: twice, then live after a resume; what its own store holds then is printed.

    python tracker_lab.py TRACKER RUN    -> {"sent": {STAGE: [[step, {name: value}], ...]}, "resumed": {...}}

Trackers are imported in a process of their own: they change signals, warnings and the environment.
"""

import json
import os
import sqlite3
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Rows = dict[str, list[tuple[int, dict[str, float]]]]


def from_tensorboard(run: Path) -> Rows:
    """The event files, by TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    found: Rows = {}
    for folder in sorted((run / "tensorboard").iterdir()):
        events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
        events.Reload()
        rows: dict[int, dict[str, float]] = {}
        for name in events.Tags()["tensors"]:
            for event in events.Tensors(name):
                row = rows.setdefault(event.step, {})
                assert name not in row, f"{name} twice at step {event.step}"
                row[name] = float(make_ndarray(event.tensor_proto))
        found[folder.name] = sorted(rows.items())
    return found


def from_wandb(run: Path) -> Rows:
    """The offline runs' transaction logs: records framed as in LevelDB, each a protobuf of wandb's own."""
    from wandb.proto import wandb_internal_pb2 as protobuf

    found: Rows = {}
    for path in sorted((run / "trackers/wandb").glob("offline-run-*/*.wandb")):
        rows = []
        for record in ended_log(path, protobuf.Record):
            if record.WhichOneof("record_type") != "history":
                continue
            row = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            step = record.history.step.num
            rows.append((step, {k: float(v) for k, v in row.items() if not k.startswith("_")}))
        stage = path.stem.rsplit("-", 1)[1]
        assert stage not in found, "two offline runs of one stage"
        found[stage] = rows
    return found


def ended_log(path: Path, kind: Any) -> list[Any]:
    """All records of a run that was finished. wandb's service writes the last block when it closes the file,
    which may be after `finish` has returned; the last record is the run's exit.
    """
    deadline = time.monotonic() + 60.0
    while True:
        records = [kind.FromString(data) for data in log_records(path.read_bytes())]
        if records and records[-1].WhichOneof("record_type") == "exit":
            return records
        assert time.monotonic() < deadline, f"{path} has no end"
        time.sleep(0.1)


def log_records(data: bytes) -> Iterator[bytes]:
    """Records of a LevelDB log behind wandb's header of 7 bytes: blocks of 32 KiB, each fragment with
    checksum (4 bytes), length (2), and type (1: whole, 2: first, 3: middle, 4: last).
    """
    assert data.startswith(b":W&B")
    place, whole = 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        size, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        if kind == 0:
            break
        whole += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):
            yield whole
            whole = b""


def from_trackio(run: Path) -> Rows:
    """The project's SQLite file."""
    (path,) = Path(os.environ["TRACKIO_DIR"]).glob("*.db")
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("SELECT run_name, step, metrics FROM metrics ORDER BY run_name, step")
        found: Rows = {}
        for name, step, text in rows:
            values = {key: number(value) for key, value in json.loads(text).items()}
            found.setdefault(name.split("/")[1], []).append((step, values))
        return found
    finally:
        connection.close()


def number(value: Any) -> float:
    """trackio writes what JSON has no number for as text."""
    return float(str(value).lower().replace("infinity", "inf"))


def from_mlflow(run: Path) -> Rows:
    """The SQLite store, by MLflow's own client."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{run / 'trackers/mlflow.db'}")
    experiments = [each.experiment_id for each in client.search_experiments()]
    found: Rows = {}
    for each in client.search_runs(experiments):
        rows: dict[int, dict[str, float]] = {}
        for name in each.data.metrics:
            for metric in client.get_metric_history(each.info.run_id, name):
                row = rows.setdefault(metric.step, {})
                assert name not in row, f"{name} twice at step {metric.step}"
                row[name] = metric.value
        stage = each.info.run_name.split("/")[1]
        assert stage not in found, "two runs of one stage"
        assert each.info.status == "FINISHED"
        found[stage] = sorted(rows.items())
    return found


READERS: dict[str, Callable[[Path], Rows]] = {
    "tensorboard": from_tensorboard,
    "wandb": from_wandb,
    "trackio": from_trackio,
    "mlflow": from_mlflow,
}


def main(tracker: str, run: Path) -> None:
    """Send, send again, go on after a resume that takes a step back; print both states of the store."""
    from rl.storage.identity import read_identity
    from rl.tracking import live
    from rl.tracking.metrics import MetricsWriter
    from rl.tracking.send import send_run
    from rl.tracking.trackers.base import TrackedStage

    read = READERS[tracker]
    for _ in range(2):
        send_run(run, tracker, aliases=["verl"])  # type: ignore[arg-type]
    sent = read(run)
    run_id = read_identity(run).run_id
    live.CLOSE_S = 200.0  # on a busy machine
    stage = TrackedStage(run_dir=run, run_id=run_id, stage="rl", project="small", recipe={})
    failures: list[object] = []
    trackers = live.LiveTrackers([tracker], stage, failures.append, aliases=["verl"])  # type: ignore[list-item]
    with MetricsWriter(run, "rl", resumed_step=1, trackers=trackers) as metrics:
        metrics.write(2, {"reward/mean": 0.75})
        metrics.add({"validation/accuracy": 0.25})
        metrics.write(3, {"reward/mean": 1.0})
    assert failures == [], failures
    print(json.dumps({"sent": sent, "resumed": read(run)}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
