"""File of the completions that a stage has graded so far, appended as they come: what a kill loses is sampled
again, with the same seeds.

    {"id": "5f0c.../0", "stop": 12, "outcomes": [true, false], "prompt": 160, "cached": 128, "sampled": 240}
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from rl.scorers.monte_carlo import Outcomes
from rl.storage.files import storing

COMPLETIONS = "completions.jsonl"
"""Name of the file in the stage's folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Completed:
    """The completions of one step, and the tokens that they took."""

    id: str
    """Row of the step's call."""
    stop: int
    """Output token behind the step."""
    outcomes: Outcomes
    prompt: int
    """Tokens of all contexts and given beginnings that engines read."""
    cached: int
    """Tokens of these contexts that an engine had in its prefix cache."""
    sampled: int

    @property
    def computed(self) -> int:
        """Tokens that an engine computed."""
        return self.prompt - self.cached + self.sampled


class CompletionFile:
    """The file while completions are made; a context manager."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._found = {(each.id, each.stop): each for each in _good(path)}
        # Without a torn last line, behind which nothing could be appended.
        with storing(str(path)):
            partial = path.with_name(f".{path.name}.partial")
            partial.write_text("".join(map(_line, self._found.values())), encoding="utf-8")
            partial.replace(path)
            self._file = path.open("a", encoding="utf-8")

    def get(self, id: str, stop: int) -> Completed | None:
        """The completions of a step, if they were made."""
        return self._found.get((id, stop))

    def all(self) -> list[Completed]:
        """All that is in the file."""
        return list(self._found.values())

    def append(self, completed: Completed) -> None:
        """Adds the completions of a step. Raises StorageError if they cannot be written."""
        with storing(str(self._path)):
            self._file.write(_line(completed))
            self._file.flush()
        self._found[completed.id, completed.stop] = completed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with storing(str(self._path)):
            os.fsync(self._file.fileno())
        self._file.close()


def _line(completed: Completed) -> str:
    return json.dumps(asdict(completed)) + "\n"


def _good(path: Path) -> Iterator[Completed]:
    """Rows up to the first that a kill or a failing disk has left damaged."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found = Completed(**json.loads(line))
        except (ValueError, TypeError):
            return
        yield replace(found, outcomes=tuple(found.outcomes))
