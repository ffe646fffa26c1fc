"""The verifiable reward: is the answer right?"""

from typing import Literal, Self

from pydantic import model_validator

from data.episodes.trajectory import Episode
from data.tasks.base import Task
from data.tasks.problem import Problem
from data.text.tokenizer import Codec
from rewards.score import Score
from rewards.term import TermParams
from rewards.verifiers.verdict import Verdict, judge


class CorrectParams(TermParams):
    """A value for each verdict. A wrong claim costs more than giving up, or the model learns to bluff."""

    name: Literal["correct"]
    """Which term."""
    correct: float = 1.0
    """For a right answer."""
    wrong: float = -0.5
    """For an answer that was claimed and is wrong."""
    none: float = 0.0
    """For no answer: gave up, cut off, or malformed."""

    @model_validator(mode="after")
    def _prefers_right(self) -> Self:
        if self.correct <= max(self.wrong, self.none):
            raise ValueError(
                f"correct ({self.correct}) must be above wrong ({self.wrong}) and none ({self.none})"
            )
        return self


class CorrectTerm:
    """See the module."""

    def __init__(self, params: CorrectParams, task: Task) -> None:
        self._values = {
            Verdict.CORRECT: params.correct,
            Verdict.WRONG: params.wrong,
            Verdict.NONE: params.none,
        }
        self._task = task

    def __call__(self, problem: Problem, episode: Episode, codec: Codec) -> Score:
        """The value of the verdict."""
        verdict = judge(self._task, problem, episode, codec)
        value = self._values[verdict]
        return Score(
            value=value,
            components={"correct": value},
            reason=f"answer: {verdict.value}",
            correct=verdict is Verdict.CORRECT,
        )
