"""One solution with its steps and labels, whatever file it comes from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

RIGHT, WRONG = 1.0, 0.0
WRONG_BELOW = 0.5
"""A step whose label is below this is wrong."""


class RowError(ValueError):
    """A row that does not fit a format: its key and what is wrong; reader and writer add file and row."""

    def __init__(self, key: str, what: str, fix: str) -> None:
        super().__init__(f"{key}: {what}\n  fix: {fix}")


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRow:
    """A solution in steps."""

    id: str
    prompt: str
    """The problem, or all that the writer of the steps saw."""
    steps: tuple[str, ...]
    labels: tuple[float | None, ...]
    """[S] 1 right, 0 wrong, in between a soft label: the share of completions that were right, or a
    probability; None when the step has no label.
    """
    answer_correct: bool | None = None
    """Whether the final answer is right; None when that is not known."""
    source: str = ""
    """Who wrote the steps, or the task they belong to."""
    cut_off: bool = False
    """Whether a limit ended the last step."""
    question: str = ""
    """Text of the problem alone, where `prompt` is all that the writer saw; "" where it is not known."""
    call: int = 0
    """Index of the call that wrote the steps, in its episode."""

    def __post_init__(self) -> None:
        assert len(self.steps) == len(self.labels) > 0, "one label, or None, for each step"

    @property
    def is_labelled(self) -> bool:
        """Whether any step has a label."""
        return any(label is not None for label in self.labels)

    @property
    def first_error(self) -> int:
        """Index of the first wrong step; -1 when no step is called wrong."""
        wrong = (
            place for place, label in enumerate(self.labels) if label is not None and label < WRONG_BELOW
        )
        return next(wrong, -1)

    @property
    def is_soft(self) -> bool:
        """Whether a label is neither 0 nor 1."""
        return any(label not in (None, RIGHT, WRONG) for label in self.labels)


class StepFormat(ABC):
    """A way to write rows of steps as JSON."""

    name: ClassVar[str]
    """Name on the command line."""

    @abstractmethod
    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of JSON looks like one of this format, by its keys."""

    @abstractmethod
    def read(self, row: Mapping[str, Any], id: str) -> list[StepRow]:
        """The solutions of a row. `id`: what a row without an id of its own is called.

        Raises:
            RowError: a key is missing, or its value is none of this format.
        """

    @abstractmethod
    def write(self, row: StepRow) -> dict[str, Any]:
        """The row as JSON has it.

        Raises:
            RowError: the format cannot say what is in the row.
        """


def text_of(row: Mapping[str, Any], key: str, *, empty: bool = False) -> str:
    """A value that is a text. Raises RowError when it is missing, or empty where that is not allowed."""
    value = row.get(key)
    if not isinstance(value, str) or not (value.strip() or empty):
        raise RowError(key, f"must be a text, found {_shown(value)}", f"write the text under {key!r}")
    return value


def texts_of(row: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """A value that is a list of texts, at least one. Raises RowError for anything else."""
    value = row.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise RowError(key, f"must be a list of texts, found {_shown(value)}", "write one text for each step")
    return tuple(value)


def labels_of(row: Mapping[str, Any], key: str, count: int) -> tuple[float | None, ...]:
    """One label for each step: true, false, a number from 0 to 1, or null.

    Raises RowError for anything else.
    """
    value = row.get(key)
    if not isinstance(value, list) or len(value) != count:
        found = f"{len(value)} labels" if isinstance(value, list) else _shown(value)
        raise RowError(key, f"must be a list of {count} labels, one for each step, found {found}", _FIX)
    for label in value:
        if label is not None and not (isinstance(label, bool | int | float) and 0 <= label <= 1):
            raise RowError(key, f"holds {_shown(label)}", _FIX)
    return tuple(None if label is None else float(label) for label in value)


_FIX = "write true, false, a share from 0 to 1, or null for a step without a label"


def written_label(label: float | None) -> bool | float | None:
    """A label as JSON has it: hard ones as true and false, soft ones as they are."""
    return bool(label) if label in (RIGHT, WRONG) else label


def hard_labels(row: StepRow, name: str) -> None:
    """Raises RowError when a label is soft and the format knows hard ones only."""
    if row.is_soft:
        raise RowError(
            "labels", f"are soft, which {name} cannot say", "write them as trl or qwen, or make them 0 or 1"
        )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
