"""AsyncThink's reward for keeping its pool of workers busy (arXiv 2510.26658).

Its eta is (1/T) * sum over t of a_t: the mean number of calls active on the token clock, where a call begins
when the last of what it waited for has ended. On that clock no tick before T is empty, so eta is exactly
total / critical tokens (`data.episodes.topology.concurrency`), and 1 / (1 - eta) for the eta of
rewards.terms.parallelism: the two terms order episodes alike and differ in slope. A call that waits for a
slot (`budgets.live_calls`) waits on this clock too.
"""

from typing import Literal

from pydantic import Field

from data.episodes.topology import concurrency
from rewards.score import Judged, Score
from rewards.term import Gate, TermParams


def concurrency_bonus(eta: float, *, capacity: int, tau: float) -> float:
    """min(eta / capacity, tau) / tau: 1 as soon as the share `tau` of the pool is busy on average.

    Args:
        eta: mean number of active calls.
        capacity: c, calls that the pool can run at once.
        tau: share of the pool at which the bonus stops growing.

    Example: total 310, critical 240 tokens, capacity 4, tau 0.5: eta 1.292, a share of 0.323, so 0.646.
    One line of thought alone has eta 1 and gets 1 / (c * tau), here 0.5.
    """
    return min(eta / capacity, tau) / tau


class ConcurrencyParams(TermParams):
    """Size of the pool and the share of it that is worth filling."""

    name: Literal["concurrency"]
    """Name of the reward term."""
    capacity: int = Field(default=4, ge=1, le=65_536)
    """Calls that can run at once (c in the paper): the width of a fork, or `budgets.live_calls`."""
    tau: float = Field(default=0.5, gt=0, le=1)
    """Mean busy share of the pool that earns the full bonus."""
    gate: Gate = "correct"
    """When the bonus counts. Unless `correct`, forking for its own sake pays."""


class ConcurrencyTerm:
    """Bonus for the mean number of active calls."""

    def __init__(self, params: ConcurrencyParams) -> None:
        self._capacity, self._tau = params.capacity, params.tau

    def __call__(self, judged: Judged) -> Score:
        """The bonus, from 0 to 1."""
        eta = concurrency(judged.episode)
        value = concurrency_bonus(eta, capacity=self._capacity, tau=self._tau)
        return Score(
            value=value,
            components={"concurrency": value},
            reason=f"{eta:.2f} of {self._capacity} calls active on average",
        )
