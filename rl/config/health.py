"""Section `health` of an rl stage: when a run that cannot learn is stopped."""

from typing import Literal

from pydantic import Field

from data.params import Params


class HealthConfig(Params):
    """When a run that cannot learn is stopped. Warnings go to the screen, `metrics.jsonl` and the ledger."""

    action: Literal["stop", "warn"] = "stop"
    """stop: end the run when its patience is over (exit code 1; it can be resumed). warn: warnings only."""
    patience_steps: int = Field(default=20, ge=1, le=1_000_000)
    """Steps in a row in which most calls are cut off, no update is made, forking has stopped, or the scorer
    is hacked.
    """
    patience_groups: int | None = Field(default=None, ge=1, le=1_000_000_000)
    """Groups in a row that cannot teach anything (all wrong, all right, all ungraded, or tied). null:
    patience_steps batches, but at least 256 groups.
    """
    cut_off_share: float = Field(default=0.5, gt=0, le=1)
    """Share of calls that may end at their length limit; 1 allows all."""
    fork_share: float = Field(default=0.01, ge=0, le=1)
    """Least share of episodes that must fork, in a protocol that forks; 0 requires none."""
    scorer_steps: int | None = Field(default=5, ge=2, le=1_000_000)
    """Steps of each of the two blocks that are compared to find a scorer which is hacked; more of them see
    smaller changes, later. null never looks.
    """
    scorer_follow: float = Field(default=0.5, ge=0, le=1)
    """Share of the gain in the scorer's opinion that the verified accuracy must follow. 0: it may stay where
    it is, and must not fall.
    """
