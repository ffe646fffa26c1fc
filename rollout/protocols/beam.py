"""Beam search over steps: the best texts of every round are continued, the others dropped.

Source: step-level beam search with a process reward model (arXiv 2408.03314, as in search-and-learn). Of N =
`width` texts the N / M best by the scorer are kept and each is continued M = `expand` times; where fewer are
left, those are continued more often, so that N texts grow. Finished texts leave the beam and are candidates
for the answer. The search ends when N texts have finished, or none is left to continue; texts that equal each
other are not filtered out. A worked example is in `rollout.protocols.shared.tree_search`.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from rollout.protocols.selection.ranking import best, spread
from rollout.protocols.shared.base import ProtocolCard, ProtocolParams
from rollout.protocols.shared.scored_texts import StepParams
from rollout.protocols.shared.tree_search import Node, TreeSearch


class BeamParams(StepParams):
    """Recipe section of `beam`."""

    name: Literal["beam"]
    """Name of the protocol."""
    expand: int = Field(default=2, ge=1, le=65_536)
    """Continuations of a text that is kept; the best `width` / `expand` are (at least one)."""


class Beam(TreeSearch):
    """Texts that grow in rounds, of which the best are kept."""

    name: ClassVar[str] = "beam"
    params_class: ClassVar[type[ProtocolParams]] = BeamParams
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="beam search over steps (arXiv 2408.03314, search-and-learn)",
        child_context="the problem and a text so far",
        join="the scorer ranks the texts of a round; at the end vote or best; the root makes no call",
        exact="yes; stops once as many texts as the beam is wide have finished",
        trained="all sampled, in every text, also in dropped ones",
        barrier="ALL, once a round",
    )

    _params: BeamParams

    def grow(self, nodes: Sequence[Node]) -> list[Node | None]:
        width = self._params.width
        if not nodes:
            return [None] * width
        growing = [node for node in nodes if node.grows]
        if sum(node.answered for node in nodes) >= width:
            return []
        ranked = best([self.value(node) for node in growing], max(1, width // self._params.expand))
        return [growing[place] for place in spread(ranked, width)]
