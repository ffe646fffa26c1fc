"""What a recipe can say about any protocol: budgets, what a failed thread means, how long to wait."""

from typing import ClassVar, Literal

from pydantic import Field

from data.params import Params

Ending = Literal["returned", "truncated", "malformed", "budget", "cancelled", "failed"]
"""How a child can end (`data.episodes.trajectory.ThreadOutcome`)."""
UNBOUNDED = 1 << 20


class Budgets(Params):
    """Run-time limits of one episode, enforced by the machine. Hitting one is a typed outcome (`Limit`)."""

    width: int = Field(default=16, ge=1)
    """Children of one fork that run; the parent is told of further ones that they did not."""
    depth: int = Field(default=1, ge=0)
    """Nesting of threads."""
    live_calls: int = Field(default=UNBOUNDED, ge=1)
    """Calls of the episode in flight at once; further ones wait for a slot, and the wait counts as path."""
    total_tokens: int = Field(default=UNBOUNDED, ge=1)
    """Sampled tokens of the whole episode."""
    critical_tokens: int = Field(default=UNBOUNDED, ge=1)
    """Sampled tokens on the longest path."""
    reserve_tokens: int = Field(default=0, ge=0)
    """The part of `total_tokens` that only the root may use, so that it can always conclude."""
    inherit: Literal["shared", "split"] = "shared"
    """`shared`: all threads draw on one purse. `split`: a fork of n gives each child, and keeps for the
    parent, 1 / (n + 1) of what the parent has left.
    """
    seconds: float | None = Field(default=None, gt=0, le=1e7)
    """Wall clock after which all threads but the root are stopped and none are opened."""
    grace_seconds: float = Field(default=0.0, ge=0, le=1e7)
    """What the root has after `seconds` to conclude."""


class ProtocolParams(Params):
    """Recipe section `protocol`; every protocol narrows `name` and adds its own fields."""

    name: str
    """Which protocol."""
    budgets: Budgets = Budgets()
    """Run-time limits of one episode."""

    has_forking_tags: ClassVar[bool] = False
    """Whether threads begin with tags of which each stands for another trace of thought."""

    @property
    def forces_forking_tags(self) -> bool:
        """Whether each thread's forking tag is forced, so that training may match tags to traces."""
        return False


class ForkingParams(ProtocolParams):
    """Every protocol that opens threads."""

    on_failure: Literal["tell", "retry", "fail"] = "tell"
    """What it means that a child was cut off, malformed or failed by the engine. `tell` the parent, in the
    protocol's words or those of `notices`; `retry` it with another seed, at most `retries` times, and then
    tell; or `fail` the episode (outcome CHILD_FAILED).
    """
    retries: int = Field(default=1, ge=1)
    """With `on_failure: retry`, new beginnings of one child."""
    notices: dict[Ending, str] = Field(default_factory=dict)
    """What the parent reads in place of a child's result, by outcome; left out: the protocol's own line."""
    wait: Literal["all", "first", "success"] = "all"
    """How many children a fork waits for: all, the first that returned (`wait_for` of them), or the first
    that returned what it was opened for. The others are cancelled at once; their tokens count.
    """
    wait_for: int = Field(default=1, ge=1)
    """With `wait: first` or `success`: this many."""
