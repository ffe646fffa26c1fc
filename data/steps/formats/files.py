"""Files of steps: which format one has, its rows, and a new one written whole or not at all."""

from collections.abc import Sequence
from pathlib import Path

from data.errors import ConfigError
from data.steps.formats.math_shepherd import MathShepherdFormat
from data.steps.formats.prm800k import Prm800kFormat
from data.steps.formats.process_bench import ProcessBenchFormat
from data.steps.formats.row import RowError, StepFormat, StepRow
from data.steps.formats.separator import SeparatorFormat
from data.steps.formats.trl import TrlFormat
from data.tasks.rows import Row, read_rows
from data.whole_file import json_line, whole_file

FORMATS: dict[str, StepFormat] = {
    made.name: made
    for made in (
        TrlFormat(),
        ProcessBenchFormat(),
        MathShepherdFormat(),
        Prm800kFormat(),
        SeparatorFormat(),
    )
}
"""Name -> format; a file is read in the first that recognises its first row."""


def read_steps(path: Path) -> tuple[str, list[StepRow]]:
    """-> the name of the file's format, and its solutions.

    Raises:
        ConfigError: naming file, row (counted from 0) and key of what does not fit.
    """
    rows = read_rows(path)
    if not rows:
        raise ConfigError(f"{path}: holds no rows; give at least one solution")
    made = _format_of(rows[0], path)
    found: list[StepRow] = []
    for index, row in enumerate(rows):
        try:
            found += made.read(row, f"{path.name}:{index}")
        except RowError as error:
            raise ConfigError(f"{path}, row {index}: {error}") from error
    return made.name, found


def write_steps(path: Path, rows: Sequence[StepRow], format: str) -> None:
    """Writes JSON Lines in the format of this name.

    Raises:
        ConfigError: naming the row that cannot be said in this format; or the file cannot be written.
    """
    made = FORMATS[format]
    try:
        with whole_file(path) as file:
            for row in rows:
                try:
                    file.write(json_line(made.write(row)))
                except RowError as error:
                    raise ConfigError(f"{path}, row {row.id!r}: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error


def _format_of(row: Row, path: Path) -> StepFormat:
    for made in FORMATS.values():
        if made.recognises(row):
            return made
    keys = ", ".join(sorted(row)) or "no keys"
    raise ConfigError(
        f"{path}, row 0: has {keys}, which is none of the formats {', '.join(FORMATS)}\n"
        "  fix: rename the keys to those of a format, for example prompt, completions, labels"
    )
