"""Verdicts of a judge on the steps of a solution: how they are written, read, and compared with labels.

    1 right, 2 right, 3 wrong       written; read also with "step" or without numbers, and with correct, yes,
                                    incorrect or no as the words
A list that does not fit the number of steps, which the program counts, cannot be read: more or fewer verdicts
than steps earn nothing (the guard of SPARK, arXiv 2512.03244). With `until: first_error` nothing is said of
the steps behind the first wrong one, in verdicts as in labels.
"""

import re
from collections.abc import Sequence
from typing import Literal

from data.steps.step import NO_ERROR

Until = Literal["first_error", "all"]
"""How far a judge goes: up to the first wrong step, or through all."""
Verdicts = tuple[bool | None, ...]
"""[S] whether each step is right; None where nothing is said of it."""

_RIGHT = frozenset({"right", "correct", "yes"})
_WRONG = frozenset({"wrong", "incorrect", "no"})
_WORD = re.compile(r"[^\W\d_]+|\d+")


def written(verdicts: Sequence[bool]) -> str:
    """The verdicts as a judge writes them: `1 right, 2 wrong`."""
    return ", ".join(f"{place} {'right' if right else 'wrong'}" for place, right in enumerate(verdicts, 1))


def read_verdicts(text: str, steps: int, until: Until) -> Verdicts | None:
    """The verdicts on `steps` steps; None when the text is no such list, or one of another length."""
    said: list[bool] = []
    number: int | None = None
    for word in _WORD.findall(text.casefold()):
        if word in _RIGHT or word in _WRONG:
            if number not in (None, len(said) + 1):
                return None
            said.append(word in _RIGHT)
            number = None
        elif word.isdecimal() and number is None:
            number = int(word) if len(word) <= len(str(steps)) else 0
        elif word not in ("step", "and"):
            return None
    if number is not None or not said or len(said) > steps:
        return None
    found = up_to_error(said) if until == "first_error" else tuple(said)
    stopped = until == "first_error" and found[len(said) - 1] is not True
    if len(said) < steps and not stopped:
        return None
    return (*found, *(None,) * (steps - len(said)))


def up_to_error(labels: Sequence[bool | None]) -> Verdicts:
    """The labels up to the first wrong step; of those behind it nothing is said."""
    error = first_error(labels)
    return tuple(None if error != NO_ERROR and place > error else each for place, each in enumerate(labels))


def first_error(verdicts: Sequence[bool | None]) -> int:
    """Place of the first step that is called wrong, from 0, or `NO_ERROR`."""
    return next((place for place, right in enumerate(verdicts) if right is False), NO_ERROR)
