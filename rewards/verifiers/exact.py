"""Answers that are right when their text equals the gold text."""

from typing import Literal

from rewards.verifiers.base import Outcome, Sample, VerifierParams, best_of, graded, no_answer


class ExactParams(VerifierParams):
    """How much two texts may differ and still be equal."""

    name: Literal["exact"]
    """Name of the verifier."""
    ignore_case: bool = False
    """Whether upper and lower case are the same."""
    ignore_space: bool = True
    """Whether runs of white space are one space, and none counts at either end."""


class ExactVerifier:
    """The answer is one of the gold texts."""

    def __init__(self, params: ExactParams) -> None:
        self._params = params

    def __call__(self, sample: Sample) -> Outcome:
        """Compare the texts as they stand."""
        answer = self._plain(sample.answer)
        if not answer:
            return no_answer("the answer is empty")
        return best_of(sample, lambda gold: graded(answer == self._plain(gold)))

    def _plain(self, text: str) -> str:
        text = " ".join(text.split()) if self._params.ignore_space else text
        return text.casefold() if self._params.ignore_case else text
