"""Multiple choice: one letter."""

import re
from typing import Literal

from pydantic import Field

from rewards.verifiers.base import Outcome, Sample, VerifierParams, best_of, graded, no_answer, no_gold


class ChoiceParams(VerifierParams):
    """The letters that can be chosen."""

    name: Literal["choice"]
    """Name of the verifier."""
    letters: str = Field(default="ABCDEFGHIJ", pattern=r"^[A-Z]+$", max_length=26)
    """Letters of the choices."""


def chosen(text: str, letters: str) -> str | None:
    """The letter that a text names, or None where it names none or several.

    A letter alone counts whatever its case and decoration: "b", "(B)", "**B.**", "\\text{B}", "$B$". In a
    longer text only a capital letter that stands alone does, and they must agree: "B) 12 apples" and
    "Answer: B" give B, "A or B" None. English words "A" and "I" do not count before a lower-case word.
    """
    bare = re.sub(r"\\(?:text|textbf|mathrm|mathbf|boxed)\s*\{([^{}]*)\}", r"\1", text.strip())
    alone = re.fullmatch(r"[\s*_$(\[{`'\"]*([A-Za-z])[\s*_$)\]}`'\".:,;]*", bare)
    if alone:
        letter = alone[1].upper()
        return letter if letter in letters else None
    found = re.findall(rf"(?<![\w'])(?![AI]\s+(?!or\b|and\b)[a-z])([{letters}])(?![\w'])", bare)
    leading = re.match(rf"[\s*_$(\[]*([{letters}])[)\].:]", bare)
    if leading:
        return leading[1]
    return found[0] if len(set(found)) == 1 else None


class ChoiceVerifier:
    """The answer names the gold letter."""

    def __init__(self, params: ChoiceParams) -> None:
        self._letters = params.letters

    def __call__(self, sample: Sample) -> Outcome:
        """Compare the letters that both name."""
        answer = chosen(sample.answer, self._letters)

        def compare(gold: str) -> Outcome:
            letter = chosen(gold, self._letters)
            if letter is None:
                return no_gold(f"{gold[:40]!r} is no letter of {self._letters}")
            return graded(answer == letter, f"chose {answer}")

        if answer is None:
            outcome = best_of(sample, compare)
            return outcome if outcome.score is None else no_answer("names no choice, or several")
        return best_of(sample, compare)
