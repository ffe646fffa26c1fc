"""Rows to problems: layout, answers, duplicates, overlap of splits. Every row that is left out is counted."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data.errors import ConfigError
from data.tasks.base import Split, split_of
from data.tasks.dataset.layouts import LAYOUTS, any_prompt, recognise
from data.tasks.dataset.params import Columns, DatasetParams
from data.tasks.dataset.reading import Reading, RowError, conversation, gold_texts, opened
from data.tasks.dataset.sources import PlacedRow, ReadSource, label, read_source
from data.tasks.problem import Problem
from data.tasks.rows import Row
from data.text.prompt import Message, Prompt

NAME = "dataset"
_SHOWN = 10
"""Wrong rows that are named; more are counted."""
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Placed:
    """A problem and where its row stands."""

    problem: Problem
    where: str
    key: str
    """Normalised text of the prompt."""


@dataclass(kw_only=True, slots=True)
class Loaded:
    """A split, and what became of its rows."""

    source: str
    layout: str
    """Layout of the rows; "columns" where the recipe names them."""
    rows: int
    """Rows of the split before any was left out."""
    problems: list[Placed]
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason -> number of rows that were left out."""
    cut: int = 0
    """Prompts whose end was removed."""
    longest: int | None = None
    """Longest prompt that stayed, in tokens, where they were measured."""

    def counts(self) -> dict[str, Any]:
        """The report of the run, as JSON."""
        return {
            "source": self.source,
            "layout": self.layout,
            "rows": self.rows,
            "problems": len(self.problems),
            "dropped": dict(sorted(self.dropped.items())),
            "cut": self.cut,
            "longest_prompt_tokens": self.longest,
        }

    def __str__(self) -> str:
        """The same for a reader."""
        changes = [f"{count} {reason}" for reason, count in sorted(self.dropped.items())]
        text = f"{len(self.problems)} of {self.rows} rows of {self.source} (layout {self.layout})"
        text += f"; left out: {', '.join(changes)}" if changes else ""
        return text + (f"; {self.cut} prompts cut" if self.cut else "")


def load_splits(params: DatasetParams, read: ReadSource = read_source) -> dict[Split, Loaded]:
    """All splits, before lengths are looked at.

    Raises:
        ConfigError: a source cannot be read, a row cannot become a problem (file and row are named), or rows
            are there twice and the recipe does not allow that.
    """
    splits: dict[Split, Loaded] = {}
    for split in SPLITS:
        source = getattr(params, split)
        if source is not None:
            splits[split] = _parse(read(source, split), label(source, split), params)
    for split, loaded in _held_out(splits["train"], params).items():
        splits[split] = loaded
    for loaded in splits.values():
        _without_duplicates(loaded, params)
        _ensure_ids(loaded)
    _without_overlap(splits, params)
    return {split: splits[split] for split in SPLITS if split in splits}


def normalised(prompt: Prompt) -> str:
    """The text by which two prompts are the same: letter case and white space do not count."""
    turns = [*(f"{message.role}: {message.content}" for message in prompt.history), prompt.text]
    return "\n".join(" ".join(unicodedata.normalize("NFC", turn).casefold().split()) for turn in turns)


def prompt_of(problem: Problem) -> Prompt:
    """The prompt that a problem holds."""
    history = tuple(Message(turn["role"], turn["content"]) for turn in problem.fields["history"])
    return Prompt(problem.fields["prompt"], history)


def _parse(rows: Sequence[PlacedRow], source: str, params: DatasetParams) -> Loaded:
    read, layout = _reader(rows[0], params)
    problems: list[Placed] = []
    wrong: list[str] = []
    for placed in rows:
        try:
            problem = _problem(placed, read(placed.row), params)
        except RowError as error:
            wrong.append(f"{placed.where}: {error}")
            continue
        problems.append(Placed(problem, placed.where, normalised(prompt_of(problem))))
    if wrong:
        more = f"\n  {len(wrong)} rows are wrong" if len(wrong) > 1 else ""
        raise ConfigError("\n  ".join(wrong[:_SHOWN]) + more)
    return Loaded(source=source, layout=layout, rows=len(rows), problems=problems)


def _reader(first: PlacedRow, params: DatasetParams) -> tuple[Callable[[Row], Reading], str]:
    columns = params.columns
    if columns.prompt is not None or columns.messages is not None:
        return lambda row: _by_columns(row, columns), "columns"
    try:
        name = params.layout or recognise(first.row)
    except RowError as error:
        raise ConfigError(f"{first.where}: {error}") from error
    if name is None:
        raise ConfigError(
            f"{first.where}: has columns {', '.join(map(repr, first.row))}, and no known layout has these\n"
            "  fix: name them: columns: {prompt: ..., answer: ...}"
        )
    layout = LAYOUTS[name]

    def read(row: Row) -> Reading:
        reading = layout(row)
        if reading is None:
            raise RowError(
                f"has columns {', '.join(map(repr, row))}, which are not those of layout {name!r} (taken "
                "from the first row); correct the row, or name the columns"
            )
        return reading

    return read, name


def _by_columns(row: Row, columns: Columns) -> Reading:
    if columns.messages is not None:
        value = value_in(row, columns.messages)
        value = opened(value) if isinstance(value, str) else value
        prompt = conversation(value, columns.messages)
    else:
        name = str(columns.prompt)
        prompt = any_prompt(value_in(row, name), name)
    return Reading(prompt=prompt, needs_answer=columns.answer is not None)


def value_in(row: Row, path: str) -> Any:
    """The value of a column, or of a key inside it (reward_model.ground_truth); JSON text is opened for that.

    Raises:
        RowError: there is no such column.
    """
    if path in row:
        return row[path]
    value: Any = row
    for part in path.split("."):
        value = opened(value) if isinstance(value, str) else value
        if not isinstance(value, Mapping) or part not in value:
            raise RowError(
                f"has no column {path!r}, only {', '.join(map(repr, row))}; correct the column's name"
            )
        value = value[part]
    return value


def _problem(placed: PlacedRow, reading: Reading, params: DatasetParams) -> Problem:
    columns, answer = params.columns, reading.answer
    if columns.answer is not None:
        answer = value_in(placed.row, columns.answer)
    required = reading.needs_answer or columns.answer is not None
    gold = gold_texts(answer, open_json=params.open_json) if required or answer is not None else ()
    name = f"row-{placed.number}"
    if columns.id is not None:
        (name,) = gold_texts([value_in(placed.row, columns.id)])
        if not name.isprintable():
            raise RowError(f"its id {name!r} holds characters that cannot be printed; correct it")
    fields = {
        "prompt": reading.prompt.text,
        "history": [{"role": turn.role, "content": turn.content} for turn in reading.prompt.history],
        "gold": list(gold),
        "fields": {**placed.row, **reading.fields},
    }
    return Problem(name, NAME, fields)


def _held_out(train: Loaded, params: DatasetParams) -> dict[Split, Loaded]:
    """The splits that are taken from the training rows; training included."""
    if not params.validation_percent and not params.test_percent:
        return {}
    parts: dict[Split, list[Placed]] = {"train": []}
    if params.validation_percent:
        parts["validation"] = []
    if params.test_percent:
        parts["test"] = []
    for placed in train.problems:
        split = split_of(
            placed.key, validation_percent=params.validation_percent, test_percent=params.test_percent
        )
        parts[split].append(placed)
    return {
        split: Loaded(source=train.source, layout=train.layout, rows=len(part), problems=part)
        for split, part in parts.items()
    }


def _without_duplicates(loaded: Loaded, params: DatasetParams) -> None:
    if params.duplicates == "keep":
        return
    first: dict[str, Placed] = {}
    kept = []
    for placed in loaded.problems:
        other = first.setdefault(placed.key, placed)
        if other is placed:
            kept.append(placed)
            continue
        if params.duplicates == "error":
            raise ConfigError(
                f"{placed.where}: its prompt is that of {other.where}\n"
                "  fix: remove one of them, or use duplicates: drop"
            )
        same = placed.problem.fields["gold"] == other.problem.fields["gold"]
        loaded.dropped["duplicates" if same else "duplicates with another answer"] += 1
    loaded.problems = kept


def _ensure_ids(loaded: Loaded) -> None:
    seen: dict[str, str] = {}
    for placed in loaded.problems:
        other = seen.setdefault(placed.problem.id, placed.where)
        if other != placed.where:
            raise ConfigError(
                f"{placed.where}: has the id {placed.problem.id!r} of {other}\n"
                "  fix: give every row its own, or leave columns.id out"
            )


def _without_overlap(splits: dict[Split, Loaded], params: DatasetParams) -> None:
    """Remove rows that a later split has, or refuse them: test before validation before training."""
    taken: dict[str, str] = {}
    for split in reversed(SPLITS):
        if split not in splits:
            continue
        loaded = splits[split]
        shared = [placed for placed in loaded.problems if placed.key in taken]
        if shared and params.overlap == "error":
            example = shared[0]
            raise ConfigError(
                f"{loaded.source}: shares {len(shared)} problem(s) with held-out rows: {example.where}, for "
                f"example, has the prompt of {taken[example.key]}. Trained problems prove nothing\n"
                "  fix: remove them from one of the two, or use overlap: drop"
            )
        if shared:
            loaded.dropped["rows of a held-out split"] += len(shared)
            loaded.problems = [placed for placed in loaded.problems if placed.key not in taken]
        taken.update({placed.key: placed.where for placed in loaded.problems})
