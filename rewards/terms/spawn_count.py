"""A price on every thread beyond an allowance.

Source: an option in the code of APR (arXiv 2504.15466), at 0.1 a thread, that its paper does not use.
"""

from typing import Literal

from pydantic import Field

from data.episodes.topology import width
from rewards.score import Judged, Score
from rewards.term import TermParams


def spawn_penalty(threads: int, *, allowed: int, penalty: float) -> float:
    """-penalty * max(0, threads - allowed).

    Example: 9 threads, 6 allowed, 0.1 each: -0.3.
    """
    return penalty * min(0, allowed - threads)


class SpawnCountParams(TermParams):
    """How many threads are free, and what each further one costs."""

    name: Literal["spawn_count"]
    """Name of the reward term."""
    allowed: int = Field(default=6, ge=0, le=65_536)
    """Threads beside the root, of the whole episode, that cost nothing."""
    penalty: float = Field(default=0.1, ge=0, le=1e6)
    """Charge for each further thread that ran."""


class SpawnCountTerm:
    """Charge for threads beyond an allowance."""

    def __init__(self, params: SpawnCountParams) -> None:
        self._allowed, self._penalty = params.allowed, params.penalty

    def __call__(self, judged: Judged) -> Score:
        """The charge, at most 0."""
        threads = width(judged.episode)
        value = spawn_penalty(threads, allowed=self._allowed, penalty=self._penalty)
        return Score(
            value=value,
            components={"spawn_count": value},
            reason=f"{threads} threads, {self._allowed} allowed",
        )
