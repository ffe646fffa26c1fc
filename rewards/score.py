"""What a reward says about an episode, and what computes it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from data.episodes.trajectory import Episode
from data.tasks.problem import Problem
from data.text.tokenizer import Codec


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A reward with its reasons.

    Example (right answer, one violation, 40% of the tokens off the critical path):
        Score(value=1.1, components={"correct": 1.0, "format": -0.1, "parallelism": 0.2}, correct=True, ...)
    """

    value: float | None
    """The reward; None when it could not be computed, which is no opinion and not a reward of 0."""
    components: dict[str, float] = field(default_factory=dict)
    """What each term contributed; they add up to `value`. Empty when ungraded."""
    reason: str = ""
    """In words: why this value, or why there is none."""
    correct: bool | None = None
    """Whether the answer is right (False: wrong, or none given); None when that could not be checked."""


class RewardTerm(Protocol):
    """One consideration, unweighted and ungated: see rewards.compose."""

    def __call__(self, problem: Problem, episode: Episode, codec: Codec) -> Score:
        """Scores a finished episode; a BraidError says that it cannot be graded."""


RewardFunction = Callable[[Problem, Episode], Score]
"""What training and evaluation call."""
