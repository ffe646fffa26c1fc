"""ThreadWeaver's reward for work off the critical path (arXiv 2512.07843, the formula of its paper).

It is a share: sampling more beside the critical path raises it, even while that path grows.
rewards.terms.critical_path charges for the path itself.
"""

from typing import Literal

from pydantic import Field

from data.episodes.topology import critical_seconds, critical_tokens, total_seconds, total_tokens
from rewards.score import Judged, Score
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
    """Name of the reward term."""
    unit: Literal["tokens", "seconds"] = "tokens"
    """Cost of a call: the tokens it sampled, as published, or its measured seconds. With seconds a run
    depends on the machine, and a seed no longer decides it.
    """
    rho: float = Field(default=1.0, gt=0, le=1e6)
    """Reward per share of the cost that is off the critical path."""
    clip: float = Field(default=0.2, gt=0, le=1e6)
    """Largest bonus, before `weight`: beyond it, more threads earn nothing."""
    gate: Gate = "correct"
    """When the bonus counts. Unless `correct`, forking for its own sake pays."""


class ParallelismTerm:
    """The bonus on token counts, or on seconds."""

    def __init__(self, params: ParallelismParams) -> None:
        self._params = params

    def __call__(self, judged: Judged) -> Score:
        """The bonus, from 0 to `clip`."""
        if self._params.unit == "tokens":
            total, critical, form = (
                float(total_tokens(judged.episode)),
                float(critical_tokens(judged.episode)),
                ".0f",
            )
        else:
            total, critical, form = total_seconds(judged.episode), critical_seconds(judged.episode), ".2f"
        value = parallelism_bonus(total, critical, rho=self._params.rho, clip=self._params.clip)
        return Score(
            value=value,
            components={"parallelism": value},
            reason=f"{critical:{form}} of {total:{form}} {self._params.unit} on the critical path",
        )
