"""The auxiliary rewards of PARL, Kimi K2.5's training of an orchestrator (arXiv 2602.02276).

    r = lambda1 * r_parallel + lambda2 * r_finish + r_perf,    both lambdas annealed to 0

r_parallel works against serial collapse (no thread is spawned), r_finish against spurious ones (threads
that do nothing); r_perf is the term `correct`. The paper gives them in words; our reading:

    r_parallel   threads beside the root that ran, up to `cap`, over `cap`
    r_finish     threads that returned over threads asked for; 0 when none were. One that a budget refused was
                 asked for. One that was cancelled is left out: that is the barrier's doing, not its own.

Example: of five threads asked for four ran: two returned, one was cut off, one was cancelled; the fifth was
refused. cap 8: r_parallel = 4 / 8, r_finish = 2 / (5 - 1). With 0.2 and 0.1: 0.1 + 0.05 = 0.15.

Annealing is the recipe's: `schedule: {kind: annealed, steps: 100}`. Left constant, spawning stays paid for.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from data.episodes.topology import width
from data.episodes.trajectory import ThreadOutcome
from rewards.score import Judged, Score
from rewards.term import TermParams


def parallel_reward(threads: int, *, cap: int) -> float:
    """r_parallel, from 0 to 1."""
    return min(threads, cap) / cap


def finish_reward(outcomes: Sequence[ThreadOutcome]) -> float:
    """r_finish, from 0 to 1; `outcomes` of all threads but the root."""
    asked = [outcome for outcome in outcomes if outcome is not ThreadOutcome.CANCELLED]
    returned = sum(outcome is ThreadOutcome.RETURNED for outcome in asked)
    return returned / len(asked) if asked else 0.0


class ParlParams(TermParams):
    """The two lambdas, and how many threads are worth spawning."""

    name: Literal["parl"]
    """Name of the reward term."""
    parallel: float = Field(default=0.2, ge=0, le=1e6)
    """Weight lambda1 of threads that ran."""
    finish: float = Field(default=0.1, ge=0, le=1e6)
    """Weight lambda2 of threads that returned."""
    cap: int = Field(default=4, ge=1, le=65_536)
    """Threads beyond which more earn nothing."""


class ParlTerm:
    """lambda1 * r_parallel + lambda2 * r_finish."""

    def __init__(self, params: ParlParams) -> None:
        self._params = params

    def __call__(self, judged: Judged) -> Score:
        """The weighted sum of both rewards, at least 0."""
        parallel = parallel_reward(width(judged.episode), cap=self._params.cap)
        finish = finish_reward([thread.outcome for thread in judged.episode.threads[1:]])
        value = self._params.parallel * parallel + self._params.finish * finish
        return Score(
            value=value, components={"parl": value}, reason=f"spawned {parallel:.2f}, finished {finish:.2f}"
        )
