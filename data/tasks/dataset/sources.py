"""Rows of a source, each with the place that error messages name."""

import glob
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from data.errors import ConfigError
from data.tasks.dataset.params import Source
from data.tasks.rows import DEEPEST, Row, plain_rows, read_rows

_ROOM = 8
"""Levels of brackets that a problem puts around its row in the run's own copy."""


@dataclass(frozen=True, slots=True)
class PlacedRow:
    """A row and where it stands."""

    row: Row
    number: int
    """Number of the row in its source, from 0."""
    where: str
    """The same for a reader: "train.jsonl, row 17"."""


ReadSource: TypeAlias = Callable[[Source, str], list[PlacedRow]]
"""`read_source`, or a way to read that keeps what it has read."""


def read_source(source: Source, split: str) -> list[PlacedRow]:
    """All rows of a source.

    Args:
        source: a file, several of them, or a name on the hub.
        split: which split is wanted; its name on the hub unless the source says otherwise.

    Raises:
        ConfigError: a file cannot be read, or the hub has no such data or cannot be reached.
    """
    named = _hub_rows(source, split) if source.hub is not None else _file_rows(source)
    placed = [PlacedRow(row, number, where) for number, (row, where) in enumerate(named)]
    if not placed:
        raise ConfigError(f"{label(source, split)}: holds no rows; give at least one")
    return placed


def label(source: Source, split: str) -> str:
    """The source as messages name it."""
    if source.hub is None:
        return str(source.file)
    config = f" ({source.config})" if source.config else ""
    return f"{source.hub}{config}, split {source.split or split}"


def _file_rows(source: Source) -> Iterator[tuple[Row, str]]:
    assert source.file is not None, "a source is a file or on the hub"
    for file in _matching(source.file):
        for index, row in enumerate(read_rows(file, deepest=DEEPEST - _ROOM)):
            yield row, f"{file}, row {index}"


def _matching(path: Path) -> list[Path]:
    if path.is_file() or not any(letter in str(path) for letter in "*?["):
        return [path]
    files = sorted(Path(file) for file in glob.glob(str(path), recursive=True) if Path(file).is_file())
    if not files:
        raise ConfigError(f"{path}: no file matches this pattern; check the path")
    return files


def _hub_rows(source: Source, split: str) -> Iterator[tuple[Row, str]]:
    name = label(source, split)
    for index, row in enumerate(plain_rows(_load(source, split), name)):
        yield row, f"{name}, row {index}"


def _load(source: Source, wanted: str) -> Any:
    """The table for a split. Code of a data set is never run (`datasets` 5 has no way to)."""
    import datasets
    import httpx

    try:
        bars = datasets.are_progress_bars_disabled()
        datasets.disable_progress_bars()
        table = datasets.load_dataset(
            source.hub, source.config, split=source.split or wanted, revision=source.revision
        )
        return table
    except (OSError, ValueError, RuntimeError, httpx.HTTPError, datasets.exceptions.DatasetsError) as error:
        said = " ".join(str(error.__cause__ or error).split())[:300]
        reason = f"datasets.load_dataset cannot load it ({type(error).__name__}: {said})"
        key = f"task.params.{wanted}"
        raise ConfigError(
            f"{label(source, wanted)}: {reason}\n"
            "  fix: check name, config, split and network; or get its rows elsewhere, and name their file: "
            f"--set '{key}={{file: ROWS.parquet}}' (STAGE.{key}, where a stage has its own)"
        ) from error
    finally:
        if not bars:
            datasets.enable_progress_bars()
