"""A tournament among live chains: the worst are exchanged for branches of the best.

Source: Gambit, thought-level beam search (arXiv 2608.08020). `width` chains are live at once. Every
`step_tokens` the scorer looks at all of them: below `floor` they are killed, free places are filled with
branches of the best, and without a free place the `swaps` worst give theirs to branches of the `swaps` best
(`rollout.protocols.selection.thought_tournament`). For the first `warm_up` tokens all go on. It ends when
`width` chains have finished or nobody is left. With `branch: false` chains are only killed, as STEP and
DeepConf do by their thresholds. A worked example is in `rollout.protocols.shared.tree_search`.

The published system reads the engine's hidden states and scores at empty lines; here the scorer is any, and a
branch is a thread of the episode.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from rollout.protocols.selection.thought_tournament import tournament
from rollout.protocols.shared.base import ProtocolCard, ProtocolParams
from rollout.protocols.shared.scored_texts import ScoredTextParams
from rollout.protocols.shared.tree_search import Node, TreeSearch


class ThoughtTournamentParams(ScoredTextParams):
    """Recipe section of `thought_tournament`."""

    name: Literal["thought_tournament"]
    """Name of the protocol."""
    step_tokens: int = Field(default=200, ge=1, le=10_000_000)
    """Sampled tokens of a chain between two looks."""
    swaps: int = Field(default=1, ge=0, le=65_536)
    """Chains that are exchanged where no place is free; never more than half of them."""
    floor: float = Field(default=0.1, ge=0, le=1)
    """Value below which a chain is killed."""
    branch: bool = True
    """Whether free places are filled and chains exchanged; else chains are only killed."""
    warm_up: int = Field(default=0, ge=0, le=10_000_000)
    """Tokens of a chain before it can be killed or exchanged."""


class ThoughtTournament(TreeSearch):
    """Live chains at a fixed capacity."""

    name: ClassVar[str] = "thought_tournament"
    params_class: ClassVar[type[ProtocolParams]] = ThoughtTournamentParams
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="Gambit (arXiv 2608.08020)",
        child_context="the problem and a text so far",
        join="the worst are exchanged for branches of the best; at the end vote or best",
        exact="no: the scorer reads text, not hidden states, and all chains are looked at together",
        trained="all sampled, in every chain, also in killed ones",
        barrier="ALL, once a round",
    )

    _params: ThoughtTournamentParams

    @property
    def most_step_tokens(self) -> int:
        return self._params.step_tokens

    def grow(self, nodes: Sequence[Node]) -> list[Node | None]:
        params = self._params
        if not nodes:
            return [None] * params.width
        growing = [node for node in nodes if node.grows]
        if not growing or sum(node.finished for node in nodes) >= params.width:
            return []
        if growing[0].depth * params.step_tokens < params.warm_up:
            return [*growing]
        values = [self.value(node) for node in growing]
        if not params.branch:
            return [node for node, value in zip(growing, values, strict=True) if value >= params.floor]
        chosen = tournament(values, params.width, swaps=params.swaps, floor=params.floor)
        return [growing[place] for place in chosen]
