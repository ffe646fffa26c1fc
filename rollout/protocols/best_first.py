"""Best-first search (A*): the most promising text of all, old or new, is continued next.

Source: A*-decoding (arXiv 2505.13672), with an estimate of Braid's own
(`rollout.protocols.selection.best_first`): what the steps so far have cost, and as much a step for those that
are still expected. In every round the `batch` best texts are taken from the queue and each is continued
`expand` times. The first finished text that is taken has the answer; the search also ends after `expansions`
texts, with the finished ones so far. A worked example is in `rollout.protocols.shared.tree_search`.
"""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from rollout.protocols.selection.best_first import estimated_cost
from rollout.protocols.shared.base import ProtocolCard, ProtocolParams
from rollout.protocols.shared.scored_texts import StepParams
from rollout.protocols.shared.tree_search import Node, TreeSearch


class BestFirstParams(StepParams):
    """Recipe section of `best_first`. `width` texts begin the search."""

    name: Literal["best_first"]
    """Name of the protocol."""
    expand: int = Field(default=2, ge=1, le=65_536)
    """Continuations of a text that is taken."""
    batch: int = Field(default=1, ge=1, le=65_536)
    """Texts that are taken at once."""
    expansions: int = Field(default=32, ge=1, le=65_536)
    """Most texts that are continued."""
    expected_steps: int = Field(default=4, ge=1, le=65_536)
    """Steps that a whole text is expected to have."""
    aggregate: Literal["prod"] = "prod"
    """Value of a finished text: the probability that all its steps are right, e^-f."""
    pick: Literal["best"] = "best"
    """Answer: that of the finished text with the largest value."""


class BestFirst(TreeSearch):
    """One queue of texts, of which the most promising is continued."""

    name: ClassVar[str] = "best_first"
    params_class: ClassVar[type[ProtocolParams]] = BestFirstParams
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="A*-decoding (arXiv 2505.13672)",
        child_context="the problem and a text so far",
        join="the lowest estimated cost first; the first finished text wins; the root makes no call",
        exact="no: the published heuristic was not available; cost so far and as much a step for the rest",
        trained="all sampled, in every text, also in dropped ones",
        barrier="ALL, once a round",
    )

    _params: BestFirstParams

    def grow(self, nodes: Sequence[Node]) -> list[Node | None]:
        params = self._params
        if not nodes:
            return [None] * params.width
        queue = sorted(
            (node for node in nodes if not node.opened and (node.answered or not node.finished)),
            # Of equals the longest text, so that a search among equals does not run in breadth.
            key=lambda node: (self.cost(node), -node.depth, node.index),
        )
        taken: list[Node] = []
        for node in queue[: params.batch]:
            if node.finished:
                break
            taken.append(node)
        left = params.expansions - sum(node.opened for node in nodes)
        # A finished text at the head of the queue ends the search; behind the head, it waits its turn.
        return [node for node in taken[: max(0, left)] for _ in range(params.expand)]

    def cost(self, node: Node) -> float:
        """Estimated cost of the whole text; lower is better."""
        if not node.scores:
            return math.inf
        return estimated_cost(node.scores, self._params.expected_steps, ended=node.finished)
