"""Types of rewards: the score of an episode, and the signature of reward terms."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from data.episodes.trajectory import Episode
from data.tasks.base import Task
from data.tasks.problem import Problem
from data.text.codec import Codec
from rewards.verifiers.base import OutcomeKind
from rewards.verifiers.verdict import Verdict


class Ungraded(StrEnum):
    """Why an episode has no reward."""

    EPISODE = "episode"
    """The engine failed, or the episode was cancelled."""
    GOLD = "gold"
    """The problem's gold answer could not be read, or the problem itself is broken."""
    VERIFIER = "verifier"
    """The verifier was late, raised an exception, or its process died."""
    TERM = "term"
    """A required term refused, or returned a value that is not a reward."""
    TIMEOUT = "timeout"
    """Scoring took longer than `reward_seconds`."""
    FAULT = "fault"
    """Scoring raised an exception, or its process died."""


Placed = tuple[str, int, int | None, int | None, float]
"""A reward with a place as plain values: term, call, first token, token behind the last, value. The tokens of
a call's own reward are None.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallReward:
    """A reward of one call, beside that of its episode: all its trained tokens are credited with it."""

    call: int
    """Index of the call in its episode."""
    value: float
    term: str = ""
    """Name of the term that gave it; `rewards.compose` fills it in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReward:
    """A reward of one step inside a call, given when its last token has been sampled: the tokens of the call
    up to there are credited with it.
    """

    call: int
    start: int
    """Index of the step's first token in the output of the call."""
    stop: int
    """Index behind its last token."""
    value: float
    term: str = ""
    """Name of the term that gave it; `rewards.compose` fills it in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A reward with its reasons.

    Example (right answer, one violation, 40% of the tokens off the critical path):
        Score(value=1.1, components={"correct": 1.0, "format": -0.1, "parallelism": 0.2}, correct=True, ...)
    """

    value: float | None
    """The reward. None when it could not be computed, which is not a reward of 0."""
    components: dict[str, float] = field(default_factory=dict)
    """Contribution of each term; their sum is `value`. Empty when ungraded."""
    calls: tuple[CallReward, ...] = ()
    """Rewards of single calls; they are not part of `value`."""
    steps: tuple[StepReward, ...] = ()
    """Rewards of steps inside calls; they are not part of `value`."""
    reason: str = ""
    """Explanation of the value, or of its absence."""
    correct: bool | None = None
    """Whether the answer is right (False: wrong, or none given). None when that could not be checked."""
    outcome: OutcomeKind | None = None
    """Outcome of the verifier; None when no answer was given."""
    ungraded: Ungraded | None = None
    """Why `value` is None. None for a graded episode."""
    failed_terms: tuple[str, ...] = ()
    """Terms that could not grade the episode, required or not."""
    opinion: float | None = None
    """Mean score that the stage's scorer gave to the steps; None where it gave none."""
    regret: float | None = None
    """Regret of the thought (rewards.process.progress); None where no answers were forced behind its blocks.
    """

    @property
    def local_rewards(self) -> tuple[CallReward | StepReward, ...]:
        """Rewards with a place, calls first."""
        return (*self.calls, *self.steps)

    @property
    def placed(self) -> list[Placed]:
        """`local_rewards` as records and ledger hold them."""
        return [
            *((reward.term, reward.call, None, None, reward.value) for reward in self.calls),
            *((r.term, r.call, r.start, r.stop, r.value) for r in self.steps),
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepScore:
    """The opinion of a scorer on one step of an episode."""

    call: int
    start: int
    """Index of the step's first token in the output of the call."""
    stop: int
    """Index behind its last token."""
    value: float
    """From 0 (wrong) to 1 (right)."""


Opinion = tuple[StepScore, ...] | str
"""A scorer's opinion of an episode, step by step, or why there is none."""
NO_SCORER = "no scorer was asked"


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A finished episode with the verdict on its answer: the input of a term."""

    task: Task
    problem: Problem
    episode: Episode
    codec: Codec
    verdict: Verdict | None
    """None when the answer could not be checked."""
    unchecked: str = ""
    """Why it could not be checked."""
    share: float | None = None
    """Share of full marks that the verifier gave, 0 to 1; None when the answer could not be checked."""
    opinion: Opinion = NO_SCORER
    """What the stage's scorer says of the steps."""
    forced: tuple[Verdict | None, ...] = ()
    """Verdict on each probe of the episode, in order; None where it could not be checked."""


class RewardTerm(Protocol):
    """One term of the reward, before weight, gate and schedule (`rewards.compose`)."""

    def __call__(self, judged: Judged) -> Score:
        """Score of the episode. Raises BraidError when the term cannot grade it."""


@runtime_checkable
class GroupTerm(Protocol):
    """A term that looks at the episodes of a problem together: it compares them, or asks another machine for
    all of them at once.
    """

    async def score_group(self, judged: Sequence[Judged]) -> Sequence[Score]:
        """[n] the score of each episode that ended, in order. Raises BraidError when it cannot grade them."""
