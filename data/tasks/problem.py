"""Problems and the files they live in.

A file holds one problem per row: columns `id` and `task`; every other column is a field of the problem.

Example (JSON Lines; every format of `data.tasks.rows` has the same columns):
    {"id": "countdown-10-9-4-2-to-37", "task": "countdown", "numbers": [10, 9, 4, 2], "target": 37}
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import ConfigError
from data.tasks.rows import Row, read_rows
from data.whole_file import json_line, whole_file


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
    """Reads a file of problems in any format of `data.tasks.rows`.

    Args:
        path: the file.
        validate: called on every problem (Task.validate); a ConfigError it raises gets file and row in front.

    Raises:
        ConfigError: naming the file, and the row (counted from 0) that causes it, if one does.
    """
    file = Path(path)
    rows = read_rows(file)
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


def save_problems(path: Path, problems: Iterable[Problem]) -> None:
    """Writes JSON Lines, whole or not at all; `load_problems` gives the same list back.

    Raises:
        ConfigError: a field has the name of a column of every problem.
    """
    with whole_file(path) as out:
        for index, problem in enumerate(problems):
            clash = {"id", "task"} & problem.fields.keys()
            if clash:
                raise ConfigError(
                    f"{path}, row {index}: a field must not have the name {sorted(clash)[0]!r}; rename it"
                )
            out.write(json_line({"id": problem.id, "task": problem.task, **problem.fields}))


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


def _to_problem(row: Row, file: Path, index: int) -> Problem:
    for name in ("id", "task"):
        value = row.get(name)
        if not isinstance(value, str) or not value or not value.isprintable():
            raise ConfigError(
                f"{file}, row {index}: {name!r} must be a non-empty string of printable characters, "
                f"found {value!r}"
            )
    # A table has every column in every row; what a problem lacks is absent, however the file says it.
    fields = {name: value for name, value in row.items() if name not in ("id", "task") and value is not None}
    return Problem(row["id"], row["task"], fields)
