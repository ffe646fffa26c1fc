"""Diverse verifier tree search: independent subtrees, each of which keeps its best text alone.

Source: DVTS (search-and-learn). N / M subtrees of M = `expand` texts grow side by side. In every round the
best text of each is continued M times; when the best has finished, its subtree is done. All finished texts
are candidates, so the answers of one subtree share their beginning. Bad luck in one subtree does not cost the
others their places, as it would in a beam. A worked example is in `rollout.protocols.shared.tree_search`.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from rollout.protocols.selection.ranking import best
from rollout.protocols.shared.base import ProtocolCard, ProtocolParams
from rollout.protocols.shared.scored_texts import StepParams
from rollout.protocols.shared.tree_search import Node, TreeSearch


class DvtsParams(StepParams):
    """Recipe section of `dvts`."""

    name: Literal["dvts"]
    """Name of the protocol."""
    expand: int = Field(default=2, ge=1, le=65_536)
    """Texts of one subtree in each round; there are `width` / `expand` subtrees (at least one)."""


class Dvts(TreeSearch):
    """Independent subtrees that each follow their best text."""

    name: ClassVar[str] = "dvts"
    params_class: ClassVar[type[ProtocolParams]] = DvtsParams
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="DVTS (search-and-learn)",
        child_context="the problem and a text so far",
        join="the scorer ranks the texts of each subtree; at the end vote or best; the root makes no call",
        exact="yes",
        trained="all sampled, in every text, also in dropped ones",
        barrier="ALL, once a round",
    )

    _params: DvtsParams

    def grow(self, nodes: Sequence[Node]) -> list[Node | None]:
        expand = self._params.expand
        if not nodes:
            return [None] * (max(1, self._params.width // expand) * expand)
        subtrees: dict[int, list[Node]] = {}
        for node in nodes:
            if node.fresh:
                subtrees.setdefault(node.path[0].index // expand, []).append(node)
        found: list[Node | None] = []
        for _, texts in sorted(subtrees.items()):
            first = texts[best([self.value(node) for node in texts], 1)[0]]
            found += [] if first.finished else [first] * expand
        return found
