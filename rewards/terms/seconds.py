"""A price on measured time: rewards.terms.critical_path in seconds. Source: this project.

The share of rewards.terms.parallelism in seconds is its option `unit: seconds`.

What seconds see and tokens do not: the prefill of long contexts after a join, and that every call gets slower
the more of them decode at once. They depend on the machine and on what else it does, so with this term a seed
no longer decides a run, and rewards compare only while engines and their load stay the same.

Example: calls of 1.0, 0.5, 2.0 and 0.25 s, the second and third at once: the path is 1.0 + 2.0 + 0.25 =
3.25 s, scale 5: -0.65.
"""

from typing import Literal

from pydantic import Field

from data.episodes.topology import critical_seconds
from rewards.score import Judged, Score
from rewards.term import TermParams
from rewards.terms.critical_path import path_penalty


class SecondsParams(TermParams):
    """Cost of a second on the critical path; `weight` is the coefficient."""

    name: Literal["seconds"]
    """Name of the reward term."""
    scale: float = Field(default=10.0, gt=0, le=1e7)
    """Seconds on the critical path that are charged 1, before `weight`."""
    clip: float = Field(default=1.0, gt=0, le=1e6)
    """Largest charge, before `weight`."""


class SecondsTerm:
    """Charge for measured seconds on the critical path."""

    def __init__(self, params: SecondsParams) -> None:
        self._params = params

    def __call__(self, judged: Judged) -> Score:
        """The charge, at most 0."""
        critical = critical_seconds(judged.episode)
        value = path_penalty(critical, scale=self._params.scale, clip=self._params.clip)
        return Score(
            value=value, components={"seconds": value}, reason=f"{critical:.2f} seconds on the critical path"
        )
