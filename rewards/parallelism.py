"""ThreadWeaver's reward for work off the critical path (the formula of its paper)."""

from typing import Literal

from pydantic import Field

from data.problem import Problem
from data.task_base import Task
from data.tokenizer import Codec
from data.topology import critical_tokens, total_tokens
from data.trajectory import Episode
from rewards.score import Score
from rewards.term import Gate, TermParams


def parallelism_bonus(total: float, critical: float, *, rho: float, clip: float) -> float:
    """min(rho * eta, clip) with eta = 1 - critical / total; 0 when nothing was sampled.

    Args:
        total: cost of all calls.
        critical: cost of the longest path, in the same unit, at most `total`.
        rho: slope.
        clip: largest bonus.

    Example: total 310, critical 110, rho 0.5, clip 0.2: eta = 200 / 310 = 0.645, 0.5 * 0.645 = 0.323, so 0.2.
    """
    assert 0 <= critical <= total, (critical, total)
    return min(rho * (1 - critical / total), clip) if total > 0 else 0.0


class ParallelismParams(TermParams):
    """Slope and ceiling of the bonus."""

    name: Literal["parallelism"]
    """Which term."""
    rho: float = Field(default=1.0, gt=0)
    """Reward per share of the tokens that is off the critical path."""
    clip: float = Field(default=0.2, gt=0)
    """Largest bonus, before `weight`: beyond it, more threads earn nothing."""
    gate: Gate = "correct"
    """When the bonus counts. Unless `correct`, forking for its own sake pays."""


class ParallelismTerm:
    """The bonus on token counts."""

    def __init__(self, params: ParallelismParams, task: Task) -> None:
        self._rho, self._clip = params.rho, params.clip

    def __call__(self, problem: Problem, episode: Episode, codec: Codec) -> Score:
        """See the module."""
        total, critical = total_tokens(episode), critical_tokens(episode)
        value = parallelism_bonus(total, critical, rho=self._rho, clip=self._clip)
        return Score(
            value=value,
            parts={"parallelism": value},
            reason=f"{critical} of {total} tokens on the critical path",
        )
