r"""Mathematical answers, read by Math-Verify's LaTeX parser and compared exactly.

Math-Verify 0.9.0 (Hugging Face) parses; its comparison is not used, since it takes six decimals for
equality, the last member of a chain for the answer, and 12:00 for 1:00 (rewards.verifiers.math_values has
ours). The gold answer is read first, and both are wrapped in `\boxed{}`, so that bare LaTeX is read at all.
Its own time limits are off: they need the main thread and do not interrupt long computations; the process is
killed instead.
"""

import logging
from functools import lru_cache
from typing import Any, Literal

from rewards.verifiers.base import Outcome, Sample, VerifierParams, best_of, graded, no_answer, no_gold
from rewards.verifiers.math_text import clock, plain, read_math, split_name, split_unit, too_deep
from rewards.verifiers.plain_numbers import PlainNumber, equal_numbers, read_number


class MathParams(VerifierParams):
    """No keys of its own; answers are compared exactly."""

    name: Literal["math"]
    """Name of the verifier."""


class MathVerifier:
    """The answer has the value of a gold answer."""

    def __init__(self, params: MathParams) -> None:
        from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
        from math_verify import LatexExtractionConfig

        # Its complaint that time limits are off, and that an answer cannot be parsed.
        logging.getLogger("math_verify").setLevel(logging.CRITICAL)
        normalization = NormalizationConfig(
            basic_latex=True, units=False, malformed_operators=False, nits=False, boxed="all", equations=False
        )
        self._targets = [LatexExtractionConfig(boxed_match_priority=0, normalization_config=normalization)]
        self._parsed = lru_cache(maxsize=64)(self._parse)
        self._parsed(r"\frac{1}{2}")  # the grammar's tables are built by the first call

    def __call__(self, sample: Sample) -> Outcome:
        """Compare the answer with each gold answer."""
        answer = read_math(sample.answer)
        return best_of(sample, lambda gold: self._compare(read_math(gold), answer))

    def _compare(self, gold: str, answer: str) -> Outcome:
        from rewards.verifiers.math_values import TooLargeError

        if not gold or (refused := too_deep(gold)) or self._is_unreadable(gold):
            return no_gold(
                f"the gold answer {gold[:40]!r} cannot be parsed{f': {refused}' if gold and refused else ''}"
            )
        if not answer:
            return no_answer("the answer is empty")
        if gold == answer or plain(gold) == plain(answer):
            return graded(True)
        if refused := too_deep(answer):
            return no_answer(refused)
        try:
            return self._compare_values(gold, answer)
        except TooLargeError as error:
            return no_answer(str(error))

    def _compare_values(self, gold: str, answer: str) -> Outcome:
        (gold_name, gold), (answer_name, answer) = split_name(gold), split_name(answer)
        if gold_name and answer_name and gold_name != answer_name:
            return graded(False, f"gives {answer_name}, not {gold_name}")
        if clock(gold) or clock(answer):
            return graded(clock(gold) == clock(answer))
        (gold, gold_unit), (answer, answer_unit) = split_unit(gold), split_unit(answer)
        if gold_unit and answer_unit and gold_unit != answer_unit:
            return graded(False, f"in {answer_unit}, not {gold_unit}")
        first, second = read_number(gold), read_number(answer)
        if first is not None and second is not None:
            return graded(equal_numbers(first, second))
        return self._compare_parsed(gold, answer, first, second)

    def _compare_parsed(
        self, gold: str, answer: str, first: PlainNumber | None, second: PlainNumber | None
    ) -> Outcome:
        from rewards.verifiers.math_values import rounds, same

        ours, theirs = self._parsed(gold), self._parsed(answer)
        if ours is None:
            return no_gold(f"the gold answer {gold[:40]!r} cannot be parsed")
        if theirs is None:
            return no_answer("the answer cannot be parsed")
        equal = same(ours, theirs)
        equal = (
            equal
            or (second is not None and rounds(ours, second))
            or (first is not None and rounds(theirs, first))
        )
        return graded(bool(equal))

    def _is_unreadable(self, gold: str) -> bool:
        """Whether a gold answer is neither a number nor anything that parses."""
        value, _ = split_unit(split_name(gold)[1])
        return clock(value) is None and read_number(value) is None and self._parsed(value) is None

    def _parse(self, text: str) -> Any:
        """The sympy object of a text; None when it has none."""
        from math_verify import parse
        from sympy import Basic, MatrixBase, Rational

        number = read_number(text)
        if number is not None:
            return Rational(number.value.numerator, number.value.denominator)
        found = parse(
            rf"\boxed{{{text}}}",
            extraction_config=self._targets,
            fallback_mode="no_fallback",
            parsing_timeout=None,
        )
        return next((value for value in found if isinstance(value, Basic | MatrixBase)), None)
