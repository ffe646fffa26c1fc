"""Weight of a term at each training step: `weight(step) = weight * factor(schedule, step)`.

Steps are training steps of the stage, counted from 0. A group gets the factors of the step that trains it,
whenever it was sampled (rl.stages.reinforce). In validation and evaluation every factor is 1, so that figures
of different steps are of the same reward.
"""

from math import exp
from typing import Annotated, Literal, Self, assert_never

from pydantic import Field, model_validator

from data.params import Params


class Constant(Params):
    """A constant weight, which is the default."""

    kind: Literal["constant"] = "constant"
    """The term has the same weight at every step."""


class Alternating(Params):
    """On and off in turn, as in Parallel-R1 (arXiv 2509.07980): eight steps accuracy, two with a bonus.

    Example: period 10, start 8, length 2 counts at steps 8, 9, 18, 19, 28, ...
    """

    kind: Literal["alternating"]
    """The term counts at some steps of each period."""
    period: int = Field(ge=2, le=1_000_000)
    """Length of a period in steps."""
    start: int = Field(default=0, ge=0, le=1_000_000)
    """The first step of a period, counted from 0, at which the term counts."""
    length: int = Field(ge=1, le=1_000_000)
    """Number of consecutive steps per period in which the term is on."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.length == self.period or self.start + self.length > self.period:
            raise ValueError(
                f"start ({self.start}) + length ({self.length}) must lie within period ({self.period}), and "
                "length must be less than it, or nothing alternates"
            )
        return self


class Annealed(Params):
    """Falls from 1 to `floor`, as the auxiliary rewards of PARL (arXiv 2602.02276) fall to 0.

    Example: steps 4, linear, floor 0.2: 1, 0.8, 0.6, 0.4, 0.2, 0.2, ...
    """

    kind: Literal["annealed"]
    """The factor falls with the steps."""
    steps: int = Field(ge=1, le=1_000_000)
    """Linear: steps until the floor. Exponential: steps in which what is above the floor falls to 1/e."""
    shape: Literal["linear", "exponential"] = "linear"
    """linear: the same amount each step. exponential: the same share each step, never quite the floor."""
    floor: float = Field(default=0.0, ge=0, lt=1)
    """Factor in the end, from 0 to 1."""


Schedule = Annotated[Constant | Alternating | Annealed, Field(discriminator="kind")]
"""A recipe's `schedule` of a term."""


def factor(schedule: Constant | Alternating | Annealed, step: int) -> float:
    """Factor on the term's weight at `step`, from 0 to 1.

    alternating   1 if start <= step mod period < start + length, else 0
    linear        floor + (1 - floor) * max(0, 1 - step / steps)
    exponential   floor + (1 - floor) * exp(-step / steps)
    """
    if isinstance(schedule, Constant):
        return 1.0
    if isinstance(schedule, Alternating):
        return float(schedule.start <= step % schedule.period < schedule.start + schedule.length)
    if isinstance(schedule, Annealed):
        decay = exp(-step / schedule.steps)
        left = max(0.0, 1 - step / schedule.steps) if schedule.shape == "linear" else decay
        return schedule.floor + (1 - schedule.floor) * left
    assert_never(schedule)
