"""Chains that sample a step again, back up or restart where the scorer does not accept it.

Source: LATTS, locally adaptive test-time scaling (arXiv 2509.20368), with a rule of Braid's own
(`rollout.protocols.selection.latts`). Each of `width` chains grows step by step. A step that scores `accept`
or more stands. Else it is sampled again, most often where the scorer is unsure; when that does not help the
step before is dropped too (`backups`), then the text (`restarts`), and at last the chain goes on with the
best of its tries, or ends without an answer (`spent`). So cost follows difficulty: a chain whose steps are
all accepted costs what one sample costs. A worked example is in `rollout.protocols.shared.step_chains`.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from rollout.protocols.selection.latts import Patience, walk
from rollout.protocols.selection.tried_steps import Move, Tried
from rollout.protocols.shared.base import Encoder, ProtocolCard, ProtocolParams
from rollout.protocols.shared.step_chains import StepChainParams, StepChains


class LattsParams(StepChainParams):
    """Recipe section of `latts`."""

    name: Literal["latts"]
    """Name of the protocol."""
    width: int = Field(default=1, ge=1, le=65_536)
    """Number of chains; those beyond `budgets.width` do not run."""
    accept: float = Field(default=0.7, gt=0, le=1)
    """Least score with which a step stands."""
    tries: int = Field(default=4, ge=1, le=65_536)
    """Most tries of one step, where the scorer is unsure; fewer where it is sure that the step is wrong."""
    backups: int = Field(default=2, ge=0, le=65_536)
    """Times that a text drops its last step as well."""
    restarts: int = Field(default=1, ge=0, le=65_536)
    """Times that a chain begins anew."""
    spent: Literal["best", "stop"] = "best"
    """What a chain does that has used up all of these: go on with the best of its last tries, or end without
    an answer.
    """


class Latts(StepChains):
    """Chains that spend more where the scorer finds a step hard."""

    name: ClassVar[str] = "latts"
    params_class: ClassVar[type[ProtocolParams]] = LattsParams
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="LATTS (arXiv 2509.20368)",
        child_context="the problem and its text so far",
        join="vote or best; the root makes no call",
        exact="no: the published criterion was not available; a threshold, and tries by the scorer's doubt",
        trained="all sampled, in every chain, also in dropped steps",
        barrier="ALL, once; FIRST_K or FIRST_SUCCESS by recipe",
    )

    _params: LattsParams

    def __init__(self, params: ProtocolParams, encoder: Encoder) -> None:
        super().__init__(params, encoder)
        own = self._params
        self._patience = Patience(
            accept=own.accept,
            most=own.tries,
            backups=own.backups,
            restarts=own.restarts,
            go_on=own.spent == "best",
        )

    def decide(self, tried: Sequence[Tried], memo: int) -> Move:
        return walk(tried, self._patience)
