"""A step, and what can be said of it."""

from dataclasses import dataclass
from enum import StrEnum

Range = tuple[int, int]
"""Characters or tokens `start:stop`."""
NO_ERROR = -1
"""Index of the first wrong step of a solution without one, as in ProcessBench."""


class StepKind(StrEnum):
    """How episodes are cut into steps."""

    LINE = "line"
    """A line of a solver's search, as the task writes it."""
    PARAGRAPH = "paragraph"
    """Text between empty lines."""
    CALL = "call"
    """The whole output of a call."""
    THREAD = "thread"
    """All outputs of a thread; it stands at the thread's last call."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Output tokens `start:stop` of a call. No token is in two steps of one kind."""

    call: int
    """Index of the call in `Episode.calls`."""
    start: int
    stop: int
    text: str
    """What the tokens spell, without white space around it; of a thread the text of all its calls."""
    kind: StepKind
    cut_off: bool = False
    """Whether the call was ended by a limit or cancelled inside this step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepLabel:
    """What is exactly known of a step; None where it makes no claim."""

    valid: bool | None
    """Whether it is right by itself: what it says follows from the values that stand there before it."""
    reachable: bool | None
    """Whether the goal of the problem can be reached from where it leads."""


UNLABELLED = StepLabel(valid=None, reachable=None)
"""The label of a step without a claim."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledStep:
    """A step of an episode with its label."""

    step: Step
    label: StepLabel
