"""A penalty for the critical path: its normalised length, as in Parason's PA-GRPO (arXiv 2608.24658).

The paper's constants could not be verified; here the length is normalised by `scale`, and `weight` is its
coefficient. Unlike the share of rewards.terms.parallelism it does not see what runs beside the path:

    total 200, critical 100  ->  total 600, critical 150: three times the work, and 1.5 times as long
    parallelism, rho 1             0.50 ->  0.75          the bonus grows although the answer comes later
    critical_path, scale 200      -0.50 -> -0.75          the later answer costs more
"""

from typing import Literal

from pydantic import Field

from data.episodes.topology import critical_tokens
from rewards.score import Judged, Score
from rewards.term import TermParams


def path_penalty(critical: float, *, scale: float, clip: float) -> float:
    """-min(critical / scale, clip).

    Args:
        critical: cost of the longest path.
        scale: cost, in the same unit, that is charged 1.
        clip: largest charge.

    Example: critical 110, scale 200, clip 1: -0.55. critical 300: -1.
    """
    return -min(critical / scale, clip)


class CriticalPathParams(TermParams):
    """Cost of a token on the critical path; `weight` is the coefficient."""

    name: Literal["critical_path"]
    """Name of the reward term."""
    scale: int = Field(default=256, ge=1, le=1_000_000_000)
    """Tokens on the critical path that are charged 1, before `weight`; for example a typical path."""
    clip: float = Field(default=1.0, gt=0, le=1e6)
    """Largest charge, before `weight`: a path of clip * scale tokens or more costs no more than that."""


class CriticalPathTerm:
    """Charge for tokens on the critical path.

    With the gate `correct`, a wrong answer costs no time. With `always`, giving up at once is cheapest, so a
    right answer should be worth more than any path costs.
    """

    def __init__(self, params: CriticalPathParams) -> None:
        self._params = params

    def __call__(self, judged: Judged) -> Score:
        """The charge, at most 0."""
        critical = critical_tokens(judged.episode)
        value = path_penalty(critical, scale=self._params.scale, clip=self._params.clip)
        return Score(
            value=value, components={"critical_path": value}, reason=f"{critical} tokens on the critical path"
        )
