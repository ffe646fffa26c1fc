"""All calls of a batch as rows in forests, and values of their tokens back in the batch's shape."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import torch

from data.forests.forest import Forest
from data.forests.rows import Row, call_row
from data.forests.split import split_rows
from rl.algorithms.advantages.roles import role_mask
from rl.learner.training_rows import PerToken
from rl.scored_group import ScoredGroup


@dataclass(frozen=True, kw_only=True, slots=True)
class CallRows:
    """One row for each call of a batch, before anything is known of its advantages."""

    groups: Sequence[ScoredGroup]
    rows: list[Row]
    """[calls of all episodes, in order]; a row without trained tokens has no weights above 0."""
    members: list[list[Row]]
    """The rows with trained tokens, by forest; at most `forest_tokens` distinct tokens each."""
    episodes: dict[int, int]
    """`id` of a row -> index of its episode in the batch."""

    @classmethod
    def of(
        cls, groups: Sequence[ScoredGroup], forest_tokens: int, roles: Sequence[str] | None = None
    ) -> Self:
        """`roles`: those whose calls count as trained; None for all."""
        rows: list[Row] = []
        episodes: dict[int, int] = {}
        for number, episode in enumerate(episode for group in groups for episode in group.episodes):
            for call, chosen in zip(episode.calls, role_mask(episode, roles), strict=True):
                rows.append(call_row(episode, call, weight=float(chosen)))
                episodes[id(rows[-1])] = number
        members = split_rows([row for row in rows if any(row.weights)], forest_tokens)
        return cls(groups=groups, rows=rows, members=members, episodes=episodes)

    def nested(self, values: Iterable[tuple[Forest, torch.Tensor]]) -> PerToken:
        """By trained token, the values of the labels, [labels] by forest of `members`; 0 without one."""
        found: dict[int, dict[int, float]] = {id(row): {} for row in self.rows}
        for part, (forest, of_labels) in zip(self.members, values, strict=True):
            places = zip(forest.labels.rows, forest.labels.outputs, of_labels.tolist(), strict=True)
            for row, place, value in places:
                found[id(part[row])][place] = value
        said = iter(found.values())
        return [
            [
                [[of_call.get(place, 0.0) for place in range(call.num_trained)]
                 for call, of_call in zip(episode.calls, said, strict=False)]
                for episode in group.episodes
            ]
            for group in self.groups
        ]  # fmt: skip
