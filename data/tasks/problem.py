"""Problems and the files they live in.

A file holds one problem per row: columns `id` and `task`; every other column is a field of the problem.

Example (JSON Lines; parquet has the same columns):
    {"id": "countdown-10-9-4-2-to-37", "task": "countdown", "numbers": [10, 9, 4, 2], "target": 37}
"""

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import ConfigError
from data.whole_file import whole_file

_SUFFIXES = (".jsonl", ".parquet")
_DEEPEST = 64
"""Deepest nesting of brackets in a row; the JSON reader of `datasets` crashes on hundreds of thousands."""
_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')
"""A string, to skip its content, or a bracket."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One row of a task, with what a verifier needs."""

    id: str
    """Unique name in its file, of printable characters."""
    task: str
    """Name of its task (`data.tasks.registry`)."""
    fields: Mapping[str, Any]
    """The task's own columns: numbers, strings and lists of them; a missing one is absent, never None."""


def load_problems(
    path: str | os.PathLike[str], *, validate: Callable[[Problem], None] | None = None
) -> list[Problem]:
    """Reads a .jsonl or .parquet file.

    Args:
        path: the file.
        validate: called on every problem (Task.validate); a ConfigError it raises gets file and row in front.

    Raises:
        ConfigError: naming the file, and the row (counted from 0) that causes it, if one does.
    """
    file = Path(path)
    _require_suffix(file)
    if not file.is_file():
        raise ConfigError(f"{file}: there is no such problem file; check the path")
    rows = _read_rows(file)
    if not rows:
        raise ConfigError(f"{file}: holds no problems; give at least one row with `id` and `task`")
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for index, row in enumerate(rows):
        problem = _to_problem(row, file, index)
        if problem.id in seen:
            raise ConfigError(
                f"{file}, row {index}: id {problem.id!r} was used in row {seen[problem.id]} already; "
                "give every problem its own id"
            )
        seen[problem.id] = index
        if validate is not None:
            try:
                validate(problem)
            except ConfigError as error:
                raise ConfigError(f"{file}, row {index}: {error}") from error
        problems.append(problem)
    return problems


def save_problems(path: str | os.PathLike[str], problems: Iterable[Problem]) -> None:
    """Writes a .jsonl or .parquet file whole or not at all; `load_problems` gives the same list back."""
    from datasets import Dataset

    file = Path(path)
    _require_suffix(file)
    rows = []
    for index, problem in enumerate(problems):
        clash = {"id", "task"} & problem.fields.keys()
        if clash:
            raise ConfigError(
                f"{file}, row {index}: a field must not have the name {sorted(clash)[0]!r}; rename it"
            )
        rows.append({"id": problem.id, "task": problem.task, **problem.fields})
    columns = dict.fromkeys(["id", "task", *(name for row in rows for name in row)])
    table = Dataset.from_dict({name: [row.get(name) for row in rows] for name in columns})
    with _without_progress_bars(), whole_file(file) as out:
        if file.suffix == ".jsonl":
            table.to_json(out, lines=True, force_ascii=False)
        else:
            table.to_parquet(out)


def ensure_disjoint(
    train: Iterable[Problem],
    heldout: Iterable[Problem],
    *,
    key: Callable[[Problem], str],
    train_name: str,
    heldout_name: str,
) -> None:
    """Raises ConfigError, naming both files and an example, when a held-out problem is also trained on.

    Args:
        key: what makes two problems the same one (`Task.key`), whatever their ids are.
        train_name: file (or split) the training problems came from.
        heldout_name: file (or split) the held-out problems came from.
    """
    trained = {key(problem): problem.id for problem in train}
    shared = [(problem.id, trained[key(problem)]) for problem in heldout if key(problem) in trained]
    if shared:
        heldout_id, train_id = shared[0]
        raise ConfigError(
            f"{heldout_name} shares {len(shared)} problem(s) with {train_name}: its {heldout_id!r}, for "
            f"example, is {train_id!r} there. A score on problems that were trained on means nothing: remove "
            "them from one of the two"
        )


def _require_suffix(file: Path) -> None:
    if file.suffix not in _SUFFIXES:
        raise ConfigError(f"{file}: problem files end in {' or '.join(_SUFFIXES)}, not {file.suffix!r}")


def _read_rows(file: Path) -> list[dict[str, Any]]:
    from datasets import Dataset
    from datasets.exceptions import DatasetGenerationError

    if not file.stat().st_size or (file.suffix == ".jsonl" and not file.read_bytes().strip()):
        return []
    if file.suffix == ".jsonl":
        _require_plain_rows(file)
    read = Dataset.from_json if file.suffix == ".jsonl" else Dataset.from_parquet
    # A cache would outlive the run and could serve a file that has changed since.
    with tempfile.TemporaryDirectory() as cache, _without_progress_bars():
        try:
            table = read(str(file), cache_dir=cache, keep_in_memory=True)
            return [dict(row) for row in table]
        except (DatasetGenerationError, ValueError, OSError) as error:
            if file.suffix == ".jsonl":
                _blame_line(file)
            raise ConfigError(
                f"{file}: cannot be read as {file.suffix[1:]} ({error.__cause__ or error}); write it again"
            ) from error


def _require_plain_rows(file: Path) -> None:
    """Raises ConfigError for a .jsonl file that its reader could crash on: a line that is no object, or one
    with brackets nested beyond reason.
    """
    for index, line in enumerate(_rows(file)):
        if not (line.startswith(b"{") and line.endswith(b"}")):
            _blame_line(file)
        if line.count(b"[") + line.count(b"{") > _DEEPEST and _depth(line) > _DEEPEST:
            raise ConfigError(
                f"{file}, row {index}: nests brackets more than {_DEEPEST} deep; flatten the row"
            )


def _rows(file: Path) -> Iterator[bytes]:
    """Lines that are not blank, without surrounding space."""
    for line in file.read_bytes().splitlines():
        if stripped := line.strip():
            yield stripped


def _depth(line: bytes) -> int:
    """Deepest nesting of brackets outside strings."""
    depth = deepest = 0
    for match in _BRACKET.finditer(line):
        if match[0] in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif match[0] in b"]}":
            depth -= 1
    return deepest


def _blame_line(file: Path) -> None:
    """Raises ConfigError for the first line that is not a JSON object or changes the type of a column."""
    types: dict[str, tuple[str, int]] = {}
    for index, line in enumerate(_rows(file)):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigError(
                f"{file}, row {index}: is not JSON ({error}); write one object per line"
            ) from error
        if not isinstance(row, dict):
            raise ConfigError(f"{file}, row {index}: is not a JSON object; write one object per line")
        for name, value in row.items():
            if value is None:
                continue
            kind = _kind(value)
            known, first = types.setdefault(name, (kind, index))
            if kind != known:
                raise ConfigError(
                    f"{file}, row {index}: {name!r} is {kind} here but {known} in row {first}; "
                    "a column has one type"
                )


def _kind(value: Any) -> str:
    """JSON type of a column's value: "number", "list of number", ..."""
    if isinstance(value, list):
        inner = sorted({_kind(item) for item in value})
        return f"list of {' and '.join(inner)}" if inner else "list"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "object" if isinstance(value, dict) else "string"


def _to_problem(row: dict[str, Any], file: Path, index: int) -> Problem:
    for name in ("id", "task"):
        value = row.get(name)
        if not isinstance(value, str) or not value or not value.isprintable():
            raise ConfigError(
                f"{file}, row {index}: {name!r} must be a non-empty string of printable characters, "
                f"found {value!r}"
            )
    # Rows of several tasks share one table: a column that a row lacks comes back as None.
    fields = {name: value for name, value in row.items() if name not in ("id", "task") and value is not None}
    return Problem(row["id"], row["task"], fields)


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    import datasets

    if datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()
