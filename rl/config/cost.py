"""Section `cost` of an rl stage: what a pass over a forest costs."""

from pydantic import Field

from data.params import Params


class CostConfig(Params):
    """Cost model of a pass, to distribute forests over ranks; `scripts/bench_learner.py --growth` fits it."""

    linear: float = Field(default=1.0, gt=0, le=1e12)
    """Relative cost of a token."""
    quadratic: float = Field(default=1e-3, ge=0, le=1e12)
    """Relative cost of a query-key pair."""
