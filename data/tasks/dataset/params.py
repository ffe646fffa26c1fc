"""Settings of task `dataset`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from data.params import CONTENT, Params
from data.tasks.dataset.layouts import LAYOUTS


class Source(Params):
    """Where the rows of a split come from. A file alone may be written as its name."""

    file: Path | None = Field(default=None, json_schema_extra=CONTENT)
    """Data file, or a pattern of several (part-*.parquet), relative to the recipe."""
    hub: str | None = None
    """Name of a data set on the Hugging Face hub, or a folder that `datasets.load_dataset` reads."""
    config: str | None = None
    """Configuration of the hub's data set."""
    split: str | None = None
    """Split of the hub's data set; null takes the one that has this split's name."""
    revision: str | None = None
    """Commit or tag of the hub's data set; null takes the newest."""

    @model_validator(mode="after")
    def _one_place(self) -> "Source":
        if (self.file is None) == (self.hub is None):
            raise ValueError("a source is either a `file` or a name on the `hub`")
        if self.file is not None and (self.config or self.split or self.revision):
            raise ValueError("`config`, `split` and `revision` belong to a `hub` name, not to a `file`")
        return self


class Columns(Params):
    """Columns of the rows, where no layout fits. A dot leads into a column: extra_info.answer."""

    prompt: str | None = None
    """Column of the prompt, a text."""
    messages: str | None = None
    """Column of the prompt, a list of messages {role, content}; the last one is the question."""
    answer: str | None = None
    """Column of the gold answer: text, a number, or a list of alternatives; goes before a layout's own."""
    id: str | None = None
    """Column of a unique name; null names rows by their number."""

    @model_validator(mode="after")
    def _one_prompt(self) -> "Columns":
        if self.prompt is not None and self.messages is not None:
            raise ValueError("`prompt` and `messages` are two columns for one thing; name one of them")
        return self


class DatasetParams(Params):
    """Sources of the rows, and what becomes of rows that are too long or there twice."""

    train: Source
    """Rows to train on: a file's name, or {hub: NAME}."""
    validation: Source | None = None
    """Rows for the curves during training; null: `validation_percent` of the training rows."""
    test: Source | None = None
    """Rows for the final figures; null: `test_percent` of the training rows."""
    validation_percent: int = Field(default=0, ge=0, le=50)
    """Share of the training rows that is held out for validation, chosen by the text of the prompt."""
    test_percent: int = Field(default=0, ge=0, le=50)
    """Share of the training rows that is held out for the test, chosen by the text of the prompt."""
    layout: str | None = None
    """Layout of the rows (`braid data FILE` names it); null recognises it from the first row."""
    columns: Columns = Columns()
    """Columns of the rows, where no layout fits."""
    open_json: bool = False
    """Read answers that are JSON text as what they spell: '["5", "five"]' as two alternatives."""
    order: Literal["shuffled", "file"] = "shuffled"
    """Order of training: a new shuffle every epoch, or the file's order again and again."""
    max_prompt_tokens: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Longest prompt in tokens, as the model sees it, template included; null: what leaves room for the
    protocol's calls in the model's context.
    """
    on_long: Literal["error", "drop", "cut"] = "error"
    """What becomes of a prompt that is too long. cut: its end is removed."""
    most_dropped: float = Field(default=0.1, ge=0, le=1)
    """Largest share of a split's rows that `on_long: drop` may remove."""
    duplicates: Literal["error", "drop", "keep"] = "drop"
    """What becomes of rows whose prompt a row before them has. drop: the first one stays."""
    overlap: Literal["error", "drop"] = "error"
    """What becomes of training rows whose prompt is in validation or test (validation rows: in test)."""

    @model_validator(mode="after")
    def _consistent(self) -> "DatasetParams":
        for name in ("validation", "test"):
            if getattr(self, name) is not None and getattr(self, f"{name}_percent"):
                raise ValueError(
                    f"`{name}` and `{name}_percent` are two sources of one split; give one of them"
                )
        if self.layout is not None and self.layout not in LAYOUTS:
            raise ValueError(f"layout {self.layout!r} is not one of {', '.join(sorted(LAYOUTS))}")
        if self.layout is not None and (self.columns.prompt or self.columns.messages):
            raise ValueError("`layout` and `columns.prompt` both say where the prompt is; give one of them")
        return self

    def has(self, split: str) -> bool:
        """Whether a split gets rows at all."""
        return split == "train" or bool(getattr(self, split) or getattr(self, f"{split}_percent"))
