"""Reward balanced search: every text is continued in proportion to e^(score / T).

Source: REBASE (arXiv 2408.00724). The `width` continuations of a round are shared out among all texts that
are not finished (`rollout.protocols.selection.rebase`): good ones get many, bad ones none, none is cut by a
rank. Every finished text leaves the search and takes one place along. A worked example is in
`rollout.protocols.shared.tree_search`.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from rollout.protocols.selection.rebase import shares
from rollout.protocols.shared.base import ProtocolCard, ProtocolParams
from rollout.protocols.shared.scored_texts import StepParams
from rollout.protocols.shared.tree_search import Node, TreeSearch


class BalancedParams(StepParams):
    """Recipe keys of searches that share out their continuations."""

    temperature: float = Field(default=0.2, gt=0, le=1e6)
    """T: the lower, the more of the continuations the best text gets. Not that of sampling."""


class RebaseParams(BalancedParams):
    """Recipe section of `rebase`."""

    name: Literal["rebase"]
    """Name of the protocol."""


class Rebase(TreeSearch):
    """Texts that are continued in proportion to their scores."""

    name: ClassVar[str] = "rebase"
    params_class: ClassVar[type[ProtocolParams]] = RebaseParams
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="REBASE (arXiv 2408.00724)",
        child_context="the problem and a text so far",
        join="continuations by e^(score / T); at the end vote or best; the root makes no call",
        exact="yes",
        trained="all sampled, in every text, also in dropped ones",
        barrier="ALL, once a round",
    )

    _params: BalancedParams

    def grow(self, nodes: Sequence[Node]) -> list[Node | None]:
        if not nodes:
            return [None] * self._params.width
        left = self._params.width - sum(node.finished for node in nodes)
        growing = [node for node in nodes if node.grows]
        if left < 1 or not growing:
            return []
        growing = self.kept(growing, left)
        counts = shares([self.value(node) for node in growing], left, self._params.temperature)
        return [node for node, count in zip(growing, counts, strict=True) for _ in range(count)]

    def kept(self, growing: list[Node], left: int) -> list[Node]:
        """Those of the growing texts that share the `left` continuations: all of them."""
        return growing
