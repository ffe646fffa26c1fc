"""The library's own score of an answer, with guards where its scorers would run the answer as code."""

import re
from collections.abc import Mapping
from typing import Any

from data.tasks.reasoning_gym.library import Item, make_dataset

_LISTS = re.compile(r"[0-9A-Z\s\[\],'\"._-]*")
_WORDS = (
    *("sin", "cos", "tan", "sec", "csc", "cot", "asin", "acos", "atan", "sinh", "cosh", "tanh"),
    *("exp", "log", "ln", "sqrt", "pi", "Abs"),
)
_FORMULA = re.compile(rf"(?:(?<![A-Za-z])(?:{'|'.join(_WORDS)}|[A-Za-z])(?![A-Za-z])|[0-9\s+\-*/^().,=])*")
_EVALUATED: Mapping[str, re.Pattern[str]] = {
    "binary_matrix": _LISTS,
    "n_queens": _LISTS,
    "spiral_matrix": _LISTS,
    "string_insertion": _LISTS,
    "countdown": _FORMULA,
    "intermediate_integration": _FORMULA,
    "polynomial_multiplication": _FORMULA,
    "simple_integration": _FORMULA,
}
"""Data sets whose scorers give the answer to Python's `eval` or to sympy's parser, which uses it: what such
an answer may consist of. Lists hold no lower-case word, formulas no word but single letters and functions,
so nothing in them names anything that Python could call.
"""
_UNREADABLE = (ValueError, TypeError, KeyError, IndexError, ArithmeticError, AttributeError, SyntaxError)
"""What scorers raise for answers they cannot read; that they can read a right one is known."""


def score(name: str, settings: Mapping[str, Any], answer: str, item: Item) -> float:
    """The score of an answer, 0 to 1; only 1 is right. 0 for one that the scorer cannot read.

    It can take any time (9**9**9): call it in a process that can be killed.

    Args:
        name: the item's data set.
        settings: the settings that the item was made with; tolerances of some scorers depend on them.
        answer: text of the answer.
        item: the puzzle.
    """
    allowed = _EVALUATED.get(name)
    if allowed is not None and not allowed.fullmatch(answer):
        return 0.0
    entry = {"question": item.question, "answer": item.gold, "metadata": dict(item.metadata)}
    scorer = make_dataset(name, settings, 1)  # outside: what it raises is no fault of the answer
    try:
        return float(scorer.score_answer(answer, entry))
    except _UNREADABLE:
        return 0.0
