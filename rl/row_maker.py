"""Groups of scored episodes -> rows of each update, with advantages, denominators and roles applied."""

import math
from collections.abc import Sequence

from rl.advantages.credit import call_advantages
from rl.advantages.roles import role_mask
from rl.batch import ScoredGroup
from rl.config.algorithm import Algorithm
from rl.losses.aggregation import call_weights
from rl.policy_rows import PolicyRow, policy_row


def make_rows(
    groups: Sequence[ScoredGroup], algorithm: Algorithm, *, minibatches: int, max_tokens: int
) -> list[list[PolicyRow]]:
    """[minibatches] the rows of each update. Rewards are compared over the whole batch; denominators count
    all episodes of the update, those without signal included. Rows without any signal are left out.
    """
    scored = [(group.episodes, group.rewards) for group in groups]
    advantages = call_advantages(scored, estimator=algorithm.advantage, credit=algorithm.credit)
    size = math.ceil(len(groups) / minibatches)
    return [
        _rows(groups[start : start + size], advantages[start : start + size], algorithm, max_tokens)
        for start in range(0, len(groups), size)
    ]


def _rows(
    groups: Sequence[ScoredGroup],
    advantages: Sequence[Sequence[Sequence[float]]],
    algorithm: Algorithm,
    max_tokens: int,
) -> list[PolicyRow]:
    """Of one update; `advantages` [P][G][calls]."""
    episodes = [
        (number, episode, values)
        for number, (group, of_group) in enumerate(zip(groups, advantages, strict=True))
        for episode, values in zip(group.episodes, of_group, strict=True)
    ]
    trained = [
        [call.trained * chosen for call, chosen in zip(e.calls, role_mask(e, algorithm.roles), strict=True)]
        for _, e, _ in episodes
    ]
    weights = call_weights(
        trained, algorithm.aggregation, max_tokens=max_tokens, groups=[number for number, _, _ in episodes]
    )
    rows: list[PolicyRow] = []
    for sequence, (_, episode, values) in enumerate(episodes):
        for call in episode.calls:
            count, advantage = trained[sequence][call.index], values[call.index]
            if not count or (advantage == 0.0 and not algorithm.kl_coef):
                continue
            row = policy_row(
                episode,
                call,
                weight=weights[sequence][call.index],
                advantages=(advantage,) * count,
                sequence=sequence,
            )
            rows.append(row)
    return rows
