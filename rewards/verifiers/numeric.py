"""Numbers that may differ by a tolerance."""

from fractions import Fraction
from typing import Literal

from pydantic import Field

from rewards.verifiers.base import Outcome, Sample, VerifierParams, best_of, graded, no_answer, no_gold
from rewards.verifiers.plain_numbers import read_number


def within(value: Fraction, gold: Fraction, *, relative: float, absolute: float) -> bool:
    """|value - gold| <= max(absolute, relative * |gold|), computed exactly with the tolerances as written.

    Example: 3.14 for 3.1416 with relative 0.001: 0.0016 <= 0.0031416, so within.
    """
    return abs(value - gold) <= max(Fraction(str(absolute)), Fraction(str(relative)) * abs(gold))


class NumericParams(VerifierParams):
    """How far an answer may be from the gold number."""

    name: Literal["numeric"]
    """Name of the verifier."""
    relative: float = Field(default=1e-6, ge=0, le=1)
    """Allowed share of the gold number's magnitude."""
    absolute: float = Field(default=0.0, ge=0, le=1e300)
    """Allowed difference, whatever the magnitude."""


class NumericVerifier:
    """The answer is a number near enough to a gold number."""

    def __init__(self, params: NumericParams) -> None:
        self._params = params

    def __call__(self, sample: Sample) -> Outcome:
        """Compare numbers under the tolerance."""
        answer = read_number(sample.answer.strip().strip("$*` ").rstrip("."))

        def compare(text: str) -> Outcome:
            gold = read_number(text.strip("$*` "))
            if gold is None:
                return no_gold(f"the gold answer {text[:40]!r} is no number")
            if answer is None:
                return no_answer("the answer is no number")
            params = self._params
            close = any(
                within(value, target, relative=params.relative, absolute=params.absolute)
                for value in answer.values
                for target in gold.values
            )
            return graded(close, f"off by {float(answer.value - gold.value):.3g}")

        return best_of(sample, compare)
