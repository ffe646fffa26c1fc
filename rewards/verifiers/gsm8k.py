"""GSM8K's answers: the number after `####`, or else the last number.

The rule is that of the data set (arXiv 2110.14168); fractions, decimals and commas are read exactly.
"""

import re
from typing import Literal

from rewards.verifiers.base import Outcome, Sample, VerifierParams, best_of, graded, no_answer, no_gold
from rewards.verifiers.plain_numbers import PlainNumber, equal_numbers, read_number

_MARK = "####"
_IN_TEXT = re.compile(r"[-−]?\$?\s?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?%?|[-−]?\$?\.\d+%?")


class Gsm8kParams(VerifierParams):
    """No keys of its own; the format is fixed."""

    name: Literal["gsm8k"]
    """Name of the verifier."""


def last_number(text: str) -> PlainNumber | None:
    """The number after the last `####`, or the last number of the text; None where there is none.

    A hyphen directly behind a word or digit is no sign: "9-4" ends in 4.
    """
    marked = text.rpartition(_MARK)[2] if _MARK in text else text
    for match in reversed(list(_IN_TEXT.finditer(marked))):
        found = match[0].replace("−", "-")
        if found.startswith("-") and match.start() and marked[match.start() - 1].isalnum():
            found = found[1:]
        number = read_number(found.replace("$ ", "$"))
        if number is not None:
            return number
    return None


class Gsm8kVerifier:
    """The last number equals the gold number."""

    def __init__(self, params: Gsm8kParams) -> None:
        self._params = params

    def __call__(self, sample: Sample) -> Outcome:
        """Compare the last numbers exactly."""
        answer = last_number(sample.answer)

        def compare(text: str) -> Outcome:
            gold = last_number(text)
            if gold is None:
                return no_gold(f"the gold answer {text[-40:]!r} has no number")
            if answer is None:
                return no_answer("the answer has no number")
            return graded(equal_numbers(gold, answer), f"read {answer.value}")

        return best_of(sample, compare)
