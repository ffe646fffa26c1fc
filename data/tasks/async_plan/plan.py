"""Steps of a plan: their text in a problem file, when each is done, and what makes two plans equal."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

NAMES = ("A", "B", "C", "D", "E", "F", "G", "H", "I", "J")
"""Names of the steps, in order."""
AFTER = "after"
_NUMBER = re.compile(r"[1-9][0-9]{0,5}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One step of a plan. Example: Step(minutes=2, needs=(0, 1)) is written "2 after A B"."""

    minutes: int
    needs: tuple[int, ...]
    """Indices of earlier steps that must be done before it starts, ascending."""

    @property
    def text(self) -> str:
        """Duration, and the steps it waits for."""
        waits = f" {AFTER} {' '.join(NAMES[need] for need in self.needs)}" if self.needs else ""
        return f"{self.minutes}{waits}"


def parse_step(text: str, place: int) -> Step:
    """Parse a text as the step with index `place` (0 is the first).

    Raises:
        ValueError: in words, what is wrong with it.
    """
    words = text.split()
    if not words or not _NUMBER.fullmatch(words[0]):
        raise ValueError("does not begin with its minutes, a number from 1")
    if len(words) == 2 or (len(words) > 2 and words[1] != AFTER):
        raise ValueError(f"is not `minutes` or `minutes {AFTER} step step ...`")
    for word in words[2:]:
        if word not in NAMES[:place]:
            raise ValueError(f"waits for {word!r}, which is not an earlier step")
    needs = tuple(sorted(NAMES.index(word) for word in words[2:]))
    if len(set(needs)) < len(needs):
        raise ValueError("waits for one step twice")
    return Step(minutes=int(words[0]), needs=needs)


def ends(steps: Sequence[Step]) -> list[int]:
    """[S] minute at which each step is done, when each starts as soon as all that it needs are done.

    Example: durations 3, 5 and, after both, 2 give 3, 5, 7.
    """
    done: list[int] = []
    for step in steps:
        done.append(max((done[need] for need in step.needs), default=0) + step.minutes)
    return done


def fingerprint(steps: Sequence[Step]) -> str:
    """Text that is equal for plans that differ in names and order of their steps only."""
    marks: list[str] = []
    for step in steps:
        needed = ",".join(sorted(marks[need] for need in step.needs))
        marks.append(hashlib.sha256(f"{step.minutes}({needed})".encode()).hexdigest()[:16])
    return " ".join(sorted(marks))
