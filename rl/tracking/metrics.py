"""`metrics.jsonl`: one record for each step of a stage. Trackers are fed from it (`rl.tracking.live`).

A line is a JSON object with sorted keys. Metrics that may differ between two equal runs are kept apart: keys
that end in `_s` (seconds) or `_per_s`, or start with `time/`, go into the sub-object "time". Without it
(`strip_time`), two runs of one seed give the same lines, however often they were resumed.

    {"reward/mean": 0.31, "stage": "rl", "step": 4, "time": {"rollout_s": 3.2, "tokens_per_s": 5100.0}}

A figure of a step that is measured later (its validation) is a line of its own, before the next step's
line; readers get one record for both.
"""

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from data.errors import ConfigError
from data.whole_file import whole_file
from rl.tracking.live import LiveTrackers

Scalar = float | int | np.number[Any]
METRICS_FILE = "metrics.jsonl"


def is_time(key: str) -> bool:
    """Whether a metric measures this machine rather than the run."""
    return key.startswith("time/") or key.endswith("_s")


def make_record(stage_name: str, step: int, scalars: Mapping[str, Scalar]) -> dict[str, Any]:
    """The object of a line. JSON has no NaN and no infinity: they become "nan", "inf" and "-inf"."""
    assert not {"stage", "step", "time"} & scalars.keys(), "stage, step and time are the record's own keys"
    plain = {key: json_number(value) for key, value in scalars.items() if not is_time(key)}
    times = {key: json_number(value) for key, value in scalars.items() if is_time(key)}
    return plain | {"stage": stage_name, "step": step} | ({"time": times} if times else {})


def strip_time(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record without metrics that depend on the machine's speed, or on when the run was resumed: a
    resumed run has no canary for the weights that it goes on with.
    """
    return {key: value for key, value in record.items() if key != "time" and not key.startswith("canary/")}


def read_metrics(path: Path, stage_name: str | None = None) -> Iterator[dict[str, Any]]:
    """The records of one stage or all; a last line without an end is still being written, and left out.

    Raises ConfigError naming the file and the line that is not a record.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; a run directory has it once training has started")
    whole: dict[str, Any] | None = None
    for number, line in enumerate(_whole_lines(path), start=1):
        record = parse_record(line)
        if record is None:
            raise ConfigError(
                f"{path}, line {number}: not a metrics record\n"
                "  fix: remove the line, or resume the run: the next stage of it keeps the good lines"
            )
        if stage_name not in (None, record["stage"]):
            continue
        if whole is not None and (whole["stage"], whole["step"]) == (record["stage"], record["step"]):
            times = whole.get("time", {}) | record.get("time", {})
            whole |= record | ({"time": times} if times else {})
            continue
        if whole is not None:
            yield whole
        whole = record
    if whole is not None:
        yield whole


def repair_metrics(path: Path) -> str | None:
    """Keeps the good lines of a damaged file and copies the file as it was. -> a warning, or None.

    A last line without an end is dropped silently: a kill leaves one.
    """
    if not path.is_file():
        return None
    lines = _whole_lines(path)
    damaged = [number for number, line in enumerate(lines, start=1) if parse_record(line) is None]
    if not damaged:
        return None
    copy = path.with_name(f"damaged-{path.name}")
    shutil.copyfile(path, copy)
    with whole_file(path) as file:
        file.writelines(line + b"\n" for line in lines if parse_record(line) is not None)
    listed = ", ".join(map(str, damaged[:3])) + (", ..." if len(damaged) > 3 else "")
    return (
        f"{path}: line {listed} cannot be read; {len(lines) - len(damaged)} good lines are kept; the file as "
        f"it was is {copy.name}"
    )


def _whole_lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1]


def parse_record(line: bytes) -> dict[str, Any] | None:
    """The record that a line of the file holds, or None if it is not a record."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("time", {}), dict):
        return None
    if not isinstance(record.get("stage"), str) or type(record.get("step")) is not int:
        return None
    return record


class MetricsWriter:
    """Appends the steps of one stage.

    `resumed_step` is the last step that the restored state has already made (-1: the stage starts afresh).
    Later records of the same stage are dropped before anything is written, and so is a last line that a kill
    cut short: they will be made again. Damaged lines are removed with a warning, and a copy of the file kept.
    Trackers get what is left, and then every line.
    """

    def __init__(
        self,
        run_dir: Path,
        stage_name: str,
        *,
        resumed_step: int = -1,
        trackers: LiveTrackers | None = None,
    ) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self.path = run_dir / METRICS_FILE
        self._stage_name = stage_name
        self._last = resumed_step
        _truncate(self.path, stage_name, resumed_step)
        self._file = self.path.open("a", encoding="utf-8")
        self._trackers = trackers
        if trackers is not None:
            trackers.send(read_metrics(self.path, stage_name))

    @property
    def is_empty(self) -> bool:
        """Whether the stage has no record yet, so that `add` has nothing to add to."""
        return self._last < 0

    def write(self, step: int, scalars: Mapping[str, Scalar]) -> dict[str, Any]:
        """Appends the record of a step and flushes it. Steps must increase. -> the record."""
        assert step > self._last, f"step {step} after step {self._last}"
        self._last = step
        return self._append(step, scalars)

    def add(self, scalars: Mapping[str, Scalar]) -> dict[str, Any]:
        """Adds metrics to the step that was written last. -> the added record."""
        return self._append(self._last, scalars)

    def _append(self, step: int, scalars: Mapping[str, Scalar]) -> dict[str, Any]:
        record = make_record(self._stage_name, step, scalars)
        self._file.write(json.dumps(record, sort_keys=True, allow_nan=False) + "\n")
        self._file.flush()
        if self._trackers is not None:
            self._trackers.send([record])
        return record

    def close(self) -> None:
        """Closes the file and the trackers."""
        self._file.close()
        if self._trackers is not None:
            self._trackers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def json_number(value: Scalar | str) -> float | int | str:
    """A value that JSON can hold: "nan", "inf" or "-inf" where it has no number, else a number of Python.

    Such a text is taken as well.
    """
    if isinstance(value, int | np.integer):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else repr(number)


def _truncate(path: Path, stage_name: str, resumed_step: int) -> None:
    if not path.exists():
        return
    if warning := repair_metrics(path):
        print(warning, flush=True)
    with whole_file(path) as file:
        for line in _whole_lines(path):
            record = parse_record(line)
            assert record is not None, "the file was repaired"
            if record["stage"] != stage_name or record["step"] <= resumed_step:
                file.write(line + b"\n")
