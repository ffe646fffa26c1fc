"""Efficient tree search: REBASE on those texts that are good, share beginnings and cover what differs.

Source: ETS (arXiv 2502.13575). Before each round some texts are dropped: those kept maximise their REBASE
shares, less what their nodes cost in keys and values, plus a premium for every cluster of last steps that is
covered (`rollout.protocols.selection.ets`, where meaning is taken from the steps' tokens and not from a
sentence embedding). The `width` continuations are then shared out among them.
"""

from typing import ClassVar, Literal

from pydantic import Field

from rollout.protocols.rebase import BalancedParams, Rebase
from rollout.protocols.selection.ets import Leaf, choose, clusters
from rollout.protocols.selection.rebase import shares
from rollout.protocols.shared.base import ProtocolCard, ProtocolParams
from rollout.protocols.shared.tree_search import Node


class EtsParams(BalancedParams):
    """Recipe section of `ets`."""

    name: Literal["ets"]
    """Name of the protocol."""
    cost: float = Field(default=1.0, ge=0, le=1e6)
    """Weight of the share of nodes that have to be kept (lambda_c)."""
    coverage: float = Field(default=1.4, ge=0, le=1e6)
    """Weight of the share of clusters that are covered (lambda_s)."""
    distance: float = Field(default=0.05, ge=0, le=1)
    """Cosine distance up to which last steps are in one cluster."""


class Ets(Rebase):
    """Texts that are continued in proportion to their scores, without those that add too little."""

    name: ClassVar[str] = "ets"
    params_class: ClassVar[type[ProtocolParams]] = EtsParams
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="ETS (arXiv 2502.13575)",
        child_context="the problem and a text so far",
        join="kept by score, shared nodes and coverage, then as REBASE; at the end vote or best",
        exact="no: steps are compared by their tokens, not by a sentence embedding; above 12 texts the set "
        "is searched for step by step",
        trained="all sampled, in every text, also in dropped ones",
        barrier="ALL, once a round",
    )

    def kept(self, growing: list[Node], left: int) -> list[Node]:
        params = self._params
        assert isinstance(params, EtsParams)
        counts = shares([self.value(node) for node in growing], left, params.temperature)
        groups = clusters([node.output for node in growing], params.distance)
        leaves = [
            Leaf(
                share=count / left,
                branches=frozenset(above.index for above in node.path[:-1]),
                cluster=group,
            )
            for node, count, group in zip(growing, counts, groups, strict=True)
        ]
        return [growing[place] for place in choose(leaves, cost=params.cost, coverage=params.coverage)]
