"""The verifiable reward: is the answer right?"""

from typing import Literal, Self

from pydantic import Field, model_validator

from rewards.score import Judged, Score
from rewards.term import TermParams
from rewards.verifiers.verdict import UngradableError, Verdict


class CorrectParams(TermParams):
    """A value for each verdict. A wrong claim costs more than giving up, or the model learns to bluff."""

    name: Literal["correct"]
    """Name of the reward term."""
    correct: float = Field(default=1.0, ge=-1e6, le=1e6)
    """Value of a right answer."""
    wrong: float = Field(default=-0.5, ge=-1e6, le=1e6)
    """Value of an answer that was given and is wrong."""
    none: float = Field(default=0.0, ge=-1e6, le=1e6)
    """Value of no answer: gave up, cut off, or malformed."""

    @model_validator(mode="after")
    def _prefers_right(self) -> Self:
        if self.correct <= max(self.wrong, self.none):
            raise ValueError(
                f"correct ({self.correct}) must be above wrong ({self.wrong}) and none ({self.none})"
            )
        return self


class CorrectTerm:
    """The value of the verdict."""

    def __init__(self, params: CorrectParams) -> None:
        self._values = {
            Verdict.CORRECT: params.correct,
            Verdict.WRONG: params.wrong,
            Verdict.NONE: params.none,
        }

    def __call__(self, judged: Judged) -> Score:
        """Look the verdict up."""
        if judged.verdict is None:
            raise UngradableError(judged.unchecked)
        value = self._values[judged.verdict]
        return Score(
            value=value,
            components={"correct": value},
            reason=f"answer: {judged.verdict.value}",
            correct=judged.verdict is Verdict.CORRECT,
        )
