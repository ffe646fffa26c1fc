"""What every term of a reward can be told in a recipe."""

from typing import Literal

from pydantic import Field

from data.params import Params
from rewards.schedule import Constant, Schedule

Gate = Literal["always", "correct", "format"]
"""When a term counts: always, only with a right answer, or only without any violation of the protocol."""


class TermParams(Params):
    """Common to all terms; each adds its own."""

    weight: float = Field(default=1.0, gt=0)
    """Factor on what the term gives."""
    gate: Gate = "always"
    """When the term counts; otherwise it contributes 0."""
    schedule: Schedule = Constant()
    """How the weight depends on the training step; evaluation always takes the full weight."""
