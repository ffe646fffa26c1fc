"""What a chain that is scored step by step has tried, and what it does next."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """A step that a chain has sampled, in the order of sampling."""

    value: float
    """Score of the step; 0 where its text has ended and has no answer, which is not scored."""
    role: str = "chain"
    """Role of the call that sampled it."""
    finished: bool = False
    """Whether the text ends with it: by its own choice, or because it may not grow any more."""
    answered: bool = False
    """Whether the text ends with an answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """The next step of a chain, or its end."""

    path: tuple[int, ...]
    """Text that goes on or has the answer, as the places of its steps among all that were tried; () is the
    problem alone.
    """
    role: str = "chain"
    """Role of the call that samples the next step behind it."""
    ends: bool = False
    """Whether the chain ends, with this text; () is none."""
