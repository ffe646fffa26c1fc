"""Recipe keys that all reward terms share."""

from typing import Literal

from pydantic import Field

from data.episodes.probe_plan import ProbePlan
from data.params import Params
from rewards.schedule import Constant, Schedule

Gate = Literal["always", "correct", "format"]
"""When a term counts: always, only with a right answer, or only without any violation of the protocol."""


class TermParams(Params):
    """Keys of every term; each term adds its own."""

    name: str
    """Name of the term."""
    weight: float = Field(default=1.0, gt=0, le=1e6)
    """Factor on the term's value. A largest value with a largest weight is a reward that is still taken."""
    gate: Gate = "always"
    """When the term counts; otherwise it contributes 0."""
    required: bool = True
    """true: an episode that the term cannot grade is ungraded. false: its reward is that of the other terms.
    When the term raises any other error or exceeds reward_seconds, the episode is ungraded either way.
    """
    schedule: Schedule = Constant()
    """How the weight depends on the training step. Validation and evaluation use the full weight."""

    @property
    def takes_step_labels(self) -> bool:
        """Whether the term, with its keys, takes a task that labels steps."""
        return False

    @property
    def rewards_steps(self) -> bool:
        """Whether the term, with its keys, rewards steps inside calls."""
        return False

    @property
    def takes_scorer(self) -> bool:
        """Whether the term, with its keys, takes the recipe's scorer."""
        return False

    @property
    def probes(self) -> ProbePlan | None:
        """Answers that the term, with its keys, has forced out of every episode; None: none."""
        return None
