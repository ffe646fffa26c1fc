"""Answer formats of a recipe: where a text holds its answer, and how two answers are compared."""

from typing import Literal, Self

from pydantic import Field, model_validator

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

AnswerKind = Literal["tags", "boxed", "after", "last_number", "choice", "code", "whole"]
MARKERS = ("Final Answer:", "####")
LETTERS = "ABCDEFGHIJ"


class AnswerFormatConfig(Params):
    """Place of an answer in a text."""

    kind: AnswerKind = "tags"
    r"""Form of an answer: behind the tag `<answer>`; in `\\boxed{}`; behind a marker; the last number; the
    letter of a choice; a fenced block of code; or the whole text.
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
        found = self._find(text[start:])
        return None if found is None else trimmed(text, start + found[0], start + found[1])

    def _find(self, text: str) -> Range | None:
        if self.kind == "after":
            return after(text, self.markers)
        if self.kind == "choice":
            return choice(text, self.letters)
        return {"tags": tagged, "boxed": boxed, "last_number": last_number, "code": code, "whole": whole}[
            self.kind
        ](text)
