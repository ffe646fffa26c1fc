"""Answer formats of a recipe: where a text holds its answer, and how two answers are compared."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticKnownError

from data.params import Params
from data.text.answers import (
    Range,
    Scope,
    after,
    after_think,
    boxed,
    choice,
    code,
    last_number,
    tagged,
    trimmed,
    whole,
)
from data.text.normalise import NormaliserName

MARKERS = ("Final Answer:", "####")
LETTERS = "ABCDEFGHIJ"


class AnswerFormatConfig(Params):
    """Place of an answer in a text."""

    kind: str = "tags"
    r"""Form of answers: tags, behind `<answer>`; boxed, in `\\boxed{}`; after, behind a marker; last_number;
    choice, a letter; code, a fenced block; whole, all of the text; or that of an extension.
    """
    scope: Scope = "whole"
    """Part of the text that may hold it: all, or what follows the last `</think>`. A text that does not close
    its thinking then has no answer.
    """
    normalise: NormaliserName | None = None
    """Form in which votes compare answers; left out: that of the task's verifier, else `exact`."""
    markers: tuple[str, ...] = Field(default=MARKERS, min_length=1)
    """Markers of `kind: after`; demonstrations write the first."""
    letters: str = Field(default=LETTERS, pattern=r"^[A-Z]+$")
    """Letters of `kind: choice`."""

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in ANSWER_FORMS:
            *first, last = [repr(name) for name in ANSWER_FORMS]
            raise PydanticKnownError("literal_error", {"expected": f"{', '.join(first)} or {last}"})
        return kind

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.markers != MARKERS and self.kind != "after":
            raise ValueError(f"markers are for kind: after, not for kind: {self.kind}")
        if self.letters != LETTERS and self.kind != "choice":
            raise ValueError(f"letters are for kind: choice, not for kind: {self.kind}")
        if not all(marker.strip() for marker in self.markers):
            raise ValueError("a marker is empty")
        return self

    def find(self, text: str) -> Range | None:
        """Characters of the answer in a text; None when it has none."""
        start = 0 if self.scope == "whole" else after_think(text)
        if start is None:
            return None
        found = self.form.find(text[start:], self)
        return None if found is None else trimmed(text, start + found[0], start + found[1])

    @property
    def form(self) -> "AnswerForm":
        """The form of this kind."""
        return ANSWER_FORMS[self.kind]


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerForm:
    """A way to write an answer in a text. Functions of the recipe's section, and pure."""

    find: Callable[[str, AnswerFormatConfig], Range | None]
    """(text, section) -> the characters of the answer; None when the text has none."""
    write: Callable[[str, AnswerFormatConfig], str]
    """(answer, section) -> the text in which `find` finds it, for demonstrations."""
    ask: Callable[[AnswerFormatConfig], str]
    """Instruction for a model: how to write it."""
    opens: Callable[[AnswerFormatConfig], str] = lambda _: ""
    """Text that begins an answer for a model which only completes it."""
    is_marked: bool = False
    """Whether a text that has no answer cannot seem to have one: not so for the last number."""


ANSWER_FORMS: dict[str, AnswerForm] = {
    "tags": AnswerForm(
        find=lambda text, _: tagged(text),
        write=lambda answer, _: f"<answer> {answer}",
        ask=lambda _: "End with <answer> and the final answer, and nothing behind it.",
        opens=lambda _: "<answer>",
        is_marked=True,
    ),
    "boxed": AnswerForm(
        find=lambda text, _: boxed(text),
        write=lambda answer, _: f"\\boxed{{{answer}}}",
        ask=lambda _: "Put the final answer in \\boxed{}.",
        opens=lambda _: "Final answer: \\boxed{",
        is_marked=True,
    ),
    "after": AnswerForm(
        find=lambda text, section: after(text, section.markers),
        write=lambda answer, section: f"{section.markers[0]} {answer}",
        ask=lambda section: (
            f'End with a line that begins with "{section.markers[0]}" and has the final answer.'
        ),
        opens=lambda section: section.markers[0],
        is_marked=True,
    ),
    "last_number": AnswerForm(
        find=lambda text, _: last_number(text),
        write=lambda answer, _: answer,
        ask=lambda _: "End with the final answer as a number.",
        opens=lambda _: "The final answer is",
    ),
    "choice": AnswerForm(
        find=lambda text, section: choice(text, section.letters),
        write=lambda answer, _: f"Answer: {answer}",
        ask=lambda _: 'End with the letter of your choice, as in "Answer: A".',
        opens=lambda _: "Answer:",
    ),
    "code": AnswerForm(
        find=lambda text, _: code(text),
        write=lambda answer, _: f"```\n{answer}\n```",
        ask=lambda _: "Write the final program in one fenced block of code.",
        opens=lambda _: "```\n",
    ),
    "whole": AnswerForm(
        find=lambda text, _: whole(text),
        write=lambda answer, _: answer,
        ask=lambda _: "Write the final answer and nothing else.",
    ),
}
"""Kind -> form. Protocols write `tags` themselves, as structure."""
