"""`metrics.jsonl` and TensorBoard: one record for each step of a stage.

A line is a JSON object with sorted keys. What may differ between two equal runs is kept apart: keys that
end in `_s` (seconds) or `_per_s`, or start with `time/`, go into the sub-object "time". `strip_time` drops
it, and two runs of one seed must then give the same lines.

    {"reward/mean": 0.31, "stage": "rl", "step": 4, "time": {"rollout_s": 3.2, "tokens_per_s": 5100.0}}
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from data.errors import ConfigError

Scalar = float | int | np.number[Any]
METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


class _Board(Protocol):
    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...

    def close(self) -> None: ...


def is_time(key: str) -> bool:
    """Whether a metric measures this machine rather than the run."""
    return key.startswith("time/") or key.endswith("_s")


def make_record(stage: str, step: int, scalars: Mapping[str, Scalar]) -> dict[str, Any]:
    """The line's object. What JSON has no number for is written as the words "nan", "inf" and "-inf"."""
    assert not {"stage", "step", "time"} & scalars.keys(), "stage, step and time are the record's own keys"
    plain = {key: _plain(value) for key, value in scalars.items() if not is_time(key)}
    times = {key: _plain(value) for key, value in scalars.items() if is_time(key)}
    return plain | {"stage": stage, "step": step} | ({"time": times} if times else {})


def strip_time(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record without what depends on the machine's speed."""
    return {key: value for key, value in record.items() if key != "time"}


def read_metrics(path: Path, stage: str | None = None) -> Iterator[dict[str, Any]]:
    """The records of one stage or all. Raises ConfigError naming file and line when one is not JSON."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; a run directory has it once training has started")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: not a metrics record ({error})") from error
        if stage is None or record["stage"] == stage:
            yield record


class MetricsWriter:
    """Appends the steps of one stage.

    `resumed_step` is the last step that the restored state has already made (-1: the stage starts afresh).
    Later records of the same stage are dropped before anything is written, and so is a last line that a kill
    cut short: they will be made again.
    """

    def __init__(
        self, run_dir: Path, stage: str, *, resumed_step: int = -1, tensorboard: bool = True
    ) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self.path = run_dir / METRICS_FILE
        self._stage = stage
        self._last = resumed_step
        _truncate(self.path, stage, resumed_step)
        self._file = self.path.open("a", encoding="utf-8")
        folder = run_dir / TENSORBOARD_FOLDER / stage
        self._board = _open_board(folder, resumed_step + 1) if tensorboard else None

    def write(self, step: int, scalars: Mapping[str, Scalar]) -> dict[str, Any]:
        """Appends one record and flushes it. Steps must increase."""
        assert step > self._last, f"step {step} after step {self._last}"
        self._last = step
        record = make_record(self._stage, step, scalars)
        self._file.write(json.dumps(record, sort_keys=True, allow_nan=False) + "\n")
        self._file.flush()
        if self._board is not None:
            for key, value in scalars.items():
                self._board.add_scalar(key, float(value), step)
        return record

    def close(self) -> None:
        """Flushes both sinks."""
        self._file.close()
        if self._board is not None:
            self._board.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _plain(value: Scalar) -> float | int | str:
    """A JSON value; numpy's scalars become Python's."""
    if isinstance(value, int | np.integer):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else repr(number)


def _truncate(path: Path, stage: str, resumed_step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        record = json.loads(line)
        if record["stage"] != stage or record["step"] <= resumed_step:
            kept.append(line)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.writelines(kept)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _open_board(folder: Path, next_step: int) -> _Board:
    # Imported here: it takes seconds, and reading metrics does not need it.
    from torch.utils.tensorboard import SummaryWriter

    board: _Board = SummaryWriter(log_dir=str(folder), purge_step=next_step)
    return board
