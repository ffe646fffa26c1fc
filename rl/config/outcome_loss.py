"""Losses of a reward model that says one thing of a whole answer."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from data.params import Params


class BinaryLoss(Params):
    """Each text by itself: cross-entropy of sigmoid(reward) against right or wrong
    (`rl/algorithms/losses/binary.py`). With `target: steps` the same, of two logits.
    """

    kind: Literal["binary"]
    """Single answers, right or wrong."""


class BradleyTerryLoss(Params):
    """Right answers against wrong ones to the same problem (`rl/algorithms/losses/bradley_terry.py`)."""

    kind: Literal["bradley_terry"]
    """Pairs of answers, one of them better."""
    pairs_per_problem: int = Field(default=16, ge=1, le=1_000_000)
    """Most pairs of one problem's episodes; all of its answers occur in them about equally often."""
    margin: float = Field(default=0.0, ge=0, le=1e6)
    """By how much the reward of the right one should be higher; a file's own margins go before it."""
    center: float = Field(default=0.0, ge=0, le=1e6)
    """Weight of (reward + reward)^2, which keeps rewards around 0: without it sigmoid(reward) is in order
    within problems only.
    """


def _named(given: Any) -> Any:
    """The section of a loss that is given by its name alone."""
    return {"kind": given} if isinstance(given, str) else given


OutcomeLoss = Annotated[BinaryLoss | BradleyTerryLoss, Field(discriminator="kind"), BeforeValidator(_named)]
"""`loss: bradley_terry` is short for `loss: {kind: bradley_terry}`."""
