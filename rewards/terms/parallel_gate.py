"""Parallel-R1's rewards (arXiv 2509.07980): whether anything runs in parallel, and well-formed; not how much.

This term gives a value to the shape of an episode, on top of `correct`, with a gate and a schedule.
The published rewards, with `correct: {correct: 1, wrong: -1, none: -1}` beside it:

    S1, accuracy stage         +1 correct, else -1
                               no parallel_gate at all
    easy stage, "times"        +1 correct and forked and well-formed, else -1
                               {forked: 0, broken: -2, alone: -2}
    S2, alternating            steps g = 1, 2, ..: (g - 1) mod 10 < 8 as S1, else
                               +1.2 correct, forked, well-formed; +1 correct without a fork; -1 otherwise
                               {forked: 0.2, broken: -2, alone: 0,
                                schedule: {kind: alternating, period: 10, start: 8, length: 2}}

Example: at step 8 (g = 9) under S2 a right answer from a well-formed fork is worth 1 + 0.2, one from a
malformed fork 1 - 2 = -1. The paper's mid-training scaffold, S2 and then accuracy alone, is two `rl` stages.
"""

from typing import Literal

from pydantic import Field

from data.episodes.topology import width
from rewards.score import Judged, Score
from rewards.term import Gate, TermParams


def parallel_gate(threads: int, well_formed: bool, *, forked: float, broken: float, alone: float) -> float:
    """The value of an episode's shape. A violation makes it `broken` whether or not a thread ran.

    The last is our reading: the paper counts blocks by their opening tag, so an attempt that opened nothing
    is a block, too, and here an attempt that failed is a violation.
    """
    if not well_formed:
        return broken
    return forked if threads else alone


class ParallelGateParams(TermParams):
    """A value for each shape. The defaults are the bonus of S2."""

    name: Literal["parallel_gate"]
    """Name of the reward term."""
    forked: float = Field(default=0.2, ge=-1e6, le=1e6)
    """At least one thread beside the root ran, and nothing broke the protocol."""
    broken: float = Field(default=-2.0, ge=-1e6, le=1e6)
    """Something broke the protocol."""
    alone: float = Field(default=0.0, ge=-1e6, le=1e6)
    """Well-formed, one line of thought."""
    gate: Gate = "correct"
    """When the term counts. Unless `correct`, forking for its own sake pays."""


class ParallelGateTerm:
    """A value for the shape of an episode: forked, broken or alone."""

    def __init__(self, params: ParallelGateParams) -> None:
        self._params = params

    def __call__(self, judged: Judged) -> Score:
        """The value of the shape."""
        params, threads, well_formed = self._params, width(judged.episode), not judged.episode.violations
        value = parallel_gate(
            threads, well_formed, forked=params.forked, broken=params.broken, alone=params.alone
        )
        shape = f"{threads} threads, {'well-formed' if well_formed else 'broken'}"
        return Score(value=value, components={"parallel_gate": value}, reason=shape)
