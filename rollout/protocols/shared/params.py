"""Parameters of every protocol: budgets, handling of failed threads, barriers."""

from typing import ClassVar, Literal

from pydantic import Field

from data.params import Params
from data.text.answer_format import AnswerFormatConfig
from rollout.protocols.shared.framing_params import FramingConfig

Ending = Literal["returned", "truncated", "malformed", "budget", "cancelled", "failed"]
"""How a child can end (`data.episodes.trajectory.ThreadOutcome`)."""
UNBOUNDED = 1 << 20


class Budgets(Params):
    """Run-time limits of one episode, enforced by the machine. Hitting one is a typed outcome (`Limit`)."""

    width: int = Field(default=16, ge=1, le=65_536)
    """Most children of one fork that run; the parent reads for each of the others that it did not run."""
    depth: int = Field(default=1, ge=0, le=1_000)
    """Deepest nesting of threads."""
    live_calls: int = Field(default=UNBOUNDED, ge=1, le=UNBOUNDED)
    """Most calls in flight at once; further calls wait for a slot, and the wait is on the critical path."""
    total_tokens: int = Field(default=UNBOUNDED, ge=1, le=1_000_000_000)
    """Most sampled tokens of the whole episode."""
    critical_tokens: int = Field(default=UNBOUNDED, ge=1, le=1_000_000_000)
    """Most sampled tokens on the longest path."""
    reserve_tokens: int = Field(default=0, ge=0, le=1_000_000_000)
    """Part of `total_tokens` that only the root may use, so that it can always conclude."""
    inherit: Literal["shared", "split"] = "shared"
    """Token budget of children: `shared` gives all threads one budget; with `split` a fork of n gives each
    child, and leaves the parent, 1 / (n + 1) of what the parent has left.
    """
    seconds: float | None = Field(default=None, gt=0, le=1e7)
    """Seconds after which all threads but the root are stopped and no thread is opened."""
    grace_seconds: float = Field(default=0.0, ge=0, le=1e7)
    """Seconds that the root has after `seconds` to conclude."""


class ProtocolParams(Params):
    """Base of the recipe section `protocol`; every protocol narrows `name` and adds its own fields."""

    name: str
    """Name of the protocol."""
    budgets: Budgets = Budgets()
    """Run-time limits of one episode."""
    framing: FramingConfig | None = None
    """Layout of calls for the model; left out: role tags for a model from random weights, the chat template
    of a pretrained model that has one, else plain text.
    """
    answer: AnswerFormatConfig = AnswerFormatConfig()
    """Place of the answer in what a thread writes."""
    result: AnswerFormatConfig = AnswerFormatConfig()
    """Place of the result in what a child writes for its parent."""

    has_forking_tags: ClassVar[bool] = False
    """Whether threads begin with tags of which each stands for another trace of thought."""

    @property
    def takes_scorer(self) -> bool:
        """Whether threads ask the recipe's scorer."""
        return False

    @property
    def forks_at(self) -> tuple[str, ...] | None:
        """Tags with which the root's text forks or joins; None for a protocol whose root does not think in
        one text, out of which an answer can be forced anywhere.
        """
        return None

    @property
    def stops_at_text(self) -> bool:
        """Whether calls end at ordinary text beside the protocol's tags."""
        return False

    @property
    def forces_forking_tags(self) -> bool:
        """Whether each thread's forking tag is forced, so that training may match tags to traces."""
        return False


class ForkingParams(ProtocolParams):
    """Base of the sections of protocols that open threads."""

    on_failure: Literal["tell", "retry", "fail"] = "tell"
    """Handling of a child that was cut off, malformed or failed by the engine: `tell` lets the parent read
    a line in its place, the protocol's own or that of `notices`; `retry` runs it again with another seed, at
    most `retries` times, then as `tell`; `fail` ends the episode (outcome CHILD_FAILED).
    """
    retries: int = Field(default=1, ge=1, le=1_000)
    """Most retries of one child with `on_failure: retry`."""
    notices: dict[Ending, str] = Field(default_factory=dict)
    """Text read in place of a child's result, by outcome; left out: the protocol's own line."""
    wait: Literal["all", "first", "success"] = "all"
    """Children that a fork waits for: all, the first that returned (`wait_for` of them), or the first that
    succeeded. The others are cancelled at once; their tokens count.
    """
    wait_for: int = Field(default=1, ge=1, le=65_536)
    """Number of children that `wait: first` or `success` waits for."""
