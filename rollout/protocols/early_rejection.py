"""Chains of which the worst are given up after their first tokens.

Source: early rejection with partial rewards (arXiv 2508.01969). N = `width` chains sample `tau` tokens; the
scorer looks at the beginnings, and only the best share `keep` of them that reach `floor` is finished (with
`rejections` above 1, they are looked at again every `tau` tokens). What a rejected chain would have sampled
is saved; that the later winner is among the rejected is the risk, and it falls with tau
(`rollout.protocols.selection.early_rejection` has the published bound).

    call 0  thread 0  <solo> 37 10 <think>        1 2
    call 1  thread 1  <solo> 37 10 <think>        3 4
    scoring           the texts of calls 0 and 1  0.2, 0.9     thread 0 is rejected
    call 2  thread 2  <solo> 37 10 <think> 3 4    5 <answer> 5 <eos>
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from rollout.protocols.selection.early_rejection import kept
from rollout.protocols.shared.base import ProtocolCard, ProtocolParams
from rollout.protocols.shared.scored_texts import ScoredTextParams
from rollout.protocols.shared.tree_search import Node, TreeSearch


class EarlyRejectionParams(ScoredTextParams):
    """Recipe section of `early_rejection`."""

    name: Literal["early_rejection"]
    """Name of the protocol."""
    tau: int = Field(default=64, ge=1, le=10_000_000)
    """Sampled tokens of a chain before it is looked at; the paper found 64 better and cheaper than 32."""
    rejections: int = Field(default=1, ge=1, le=65_536)
    """Times that the scorer looks at the chains, every `tau` tokens; then they run to their ends."""
    keep: float = Field(default=0.25, gt=0, le=1)
    """Share of the chains that goes on, at least one."""
    floor: float = Field(default=0.0, ge=0, le=1)
    """Least value with which a chain goes on; the best one always does."""


class EarlyRejection(TreeSearch):
    """Chains of which the best by their beginnings are finished."""

    name: ClassVar[str] = "early_rejection"
    params_class: ClassVar[type[ProtocolParams]] = EarlyRejectionParams
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="early rejection (arXiv 2508.01969)",
        child_context="the problem, then the chain so far",
        join="the best beginnings are finished; at the end vote or best; the root makes no call",
        exact="yes, for whole chains; the paper also rejects inside the steps of a beam",
        trained="all sampled, in every chain, also in rejected ones",
        barrier="ALL, once for every look",
    )

    _params: EarlyRejectionParams

    @property
    def most_steps(self) -> int:
        return self._params.rejections + 1

    @property
    def most_step_tokens(self) -> int:
        return self._params.tau

    def grow(self, nodes: Sequence[Node]) -> list[Node | None]:
        if not nodes:
            return [None] * self._params.width
        growing = [node for node in nodes if node.grows]
        if not growing:
            return []
        values = [self.value(node) for node in growing]
        return [growing[place] for place in kept(values, self._params.keep, self._params.floor)]
