"""Groups of scored episodes -> rows of each update, with advantages, denominators and roles applied."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rl.algorithms.advantages.call_gae import at_call_heads, call_gae
from rl.algorithms.advantages.credit import call_advantages
from rl.algorithms.advantages.estimators import ESTIMATORS
from rl.algorithms.advantages.gae import gae
from rl.algorithms.advantages.implicit_return import implicit_returns
from rl.algorithms.advantages.placed import placed_advantages, placed_rewards
from rl.algorithms.advantages.roles import role_mask
from rl.algorithms.losses.aggregation import call_weights
from rl.config.algorithm import Algorithm, Critic, Implicit
from rl.learner.policy_rows import PolicyRow, policy_row
from rl.scored_group import ScoredGroup

PerToken = list[list[list[list[float]]]]
"""[P groups][G episodes][calls][trained tokens]"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenCredit:
    """Advantage of each trained token of a batch and, with a critic, target and value."""

    advantages: PerToken
    returns: PerToken | None = None
    """Targets of the critic; None without one."""
    values: PerToken | None = None
    """The critic's values; None without one."""


def group_credit(groups: Sequence[ScoredGroup], algorithm: Algorithm) -> TokenCredit:
    """Credit from rewards, over the whole batch: that of the call, the same for all its tokens, and that of
    the steps which a token is part of or comes before.
    """
    scored = [(group.episodes, group.rewards) for group in groups]
    per_call = call_advantages(scored, estimator=algorithm.advantage, credit=algorithm.credit)
    placed = placed_advantages(
        [(group.episodes, group.scores) for group in groups], ESTIMATORS[algorithm.advantage]
    )
    return TokenCredit(
        advantages=[
            [
                [[value + step for step in steps] for value, steps in zip(values, of_calls, strict=True)]
                for values, of_calls in zip(of_group, of_steps, strict=True)
            ]
            for of_group, of_steps in zip(per_call, placed, strict=True)
        ]
    )


def implicit_credit(
    groups: Sequence[ScoredGroup], algorithm: Algorithm, implicit: Implicit, rewards: PerToken
) -> TokenCredit:
    """PRIME's credit: that of the rewards, and the returns of an implicit reward model's token `rewards`. An
    ungraded episode has no signal.
    """
    outcome = group_credit(groups, algorithm).advantages
    advantages = []
    for group, of_rewards, of_tokens in zip(groups, outcome, rewards, strict=True):
        returns = implicit_returns(
            group.episodes,
            of_tokens,
            counted=[role_mask(episode, algorithm.roles) for episode in group.episodes],
            graded=[reward is not None for reward in group.rewards],
        )
        advantages.append(
            [
                [
                    [a + implicit.weight * r for a, r in zip(*of_call, strict=True)]
                    for of_call in zip(*of_episode, strict=True)
                ]
                for of_episode in zip(of_rewards, returns, strict=True)
            ]
        )
    return TokenCredit(advantages=_whitened(groups, advantages) if implicit.whiten else advantages)


def critic_credit(groups: Sequence[ScoredGroup], critic: Critic, values: PerToken) -> TokenCredit:
    """GAE over each episode's DAG, by tokens or by calls, with another lambda for the critic's targets. An
    ungraded episode has no signal: its advantages are 0, and its values are their own targets.
    """
    estimator = call_gae if critic.level == "call" else gae
    advantages, returns = [], []
    for group, of_group in zip(groups, values, strict=True):
        of_policy, of_critic = [], []
        for episode, score, said in zip(group.episodes, group.scores, of_group, strict=True):
            reward = score.value
            if reward is None:
                of_policy.append([[0.0] * len(call) for call in said])
                of_critic.append(said)
                continue
            given: dict[str, Any] = {"gamma": critic.gamma, "placed": placed_rewards(episode, score)}
            of_policy.append(estimator(episode, said, reward, lam=critic.lam, **given)[0])
            of_critic.append(estimator(episode, said, reward, lam=critic.lam_critic, **given)[1])
        advantages.append(of_policy)
        returns.append(of_critic)
    credit = TokenCredit(advantages=advantages, returns=returns, values=values)
    return replace(credit, advantages=_whitened(groups, advantages)) if critic.whiten else credit


def critic_tokens(nested: PerToken, critic: Critic) -> list[float]:
    """What belongs to the tokens at which the critic speaks, in one list."""
    stop = 1 if critic.level == "call" else None
    return [value for group in nested for episode in group for call in episode for value in call[:stop]]


def _whitened(groups: Sequence[ScoredGroup], advantages: PerToken) -> PerToken:
    """Mean 0 and standard deviation 1 over the tokens of all graded episodes; all NaN when one of them is not
    finite.
    """
    graded = [
        value
        for group, of_group in zip(groups, advantages, strict=True)
        for reward, of_episode in zip(group.rewards, of_group, strict=True)
        if reward is not None
        for of_call in of_episode
        for value in of_call
    ]
    if len(graded) < 2:
        return advantages
    if all(map(math.isfinite, graded)):
        mean = math.fsum(graded) / len(graded)
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in graded) / (len(graded) - 1)) + 1e-8
    else:  # `fsum` refuses infinities; with NaN the gradient is NaN, and the update is skipped
        mean = spread = math.nan
    return [
        [
            of_episode if reward is None else [[(v - mean) / spread for v in call] for call in of_episode]
            for reward, of_episode in zip(group.rewards, of_group, strict=True)
        ]
        for group, of_group in zip(groups, advantages, strict=True)
    ]


def make_rows(
    groups: Sequence[ScoredGroup],
    algorithm: Algorithm,
    credit: TokenCredit,
    *,
    minibatches: int,
    max_tokens: int,
) -> list[list[PolicyRow]]:
    """[minibatches] the rows of each update; denominators count all its episodes, those without signal
    included. Calls without any signal are left out.
    """
    size = math.ceil(len(groups) / minibatches)
    return [
        _rows(range(start, min(start + size, len(groups))), groups, algorithm, credit, max_tokens)
        for start in range(0, len(groups), size)
    ]


def _rows(
    numbers: range,
    groups: Sequence[ScoredGroup],
    algorithm: Algorithm,
    credit: TokenCredit,
    max_tokens: int,
) -> list[PolicyRow]:
    """The rows of the update that trains the groups with these numbers."""
    places = [(number, sample) for number in numbers for sample in range(len(groups[number].episodes))]
    episodes = [groups[number].episodes[sample] for number, sample in places]
    trained = [
        [
            call.num_trained * chosen
            for call, chosen in zip(e.calls, role_mask(e, algorithm.roles), strict=True)
        ]
        for e in episodes
    ]
    weights = call_weights(
        trained, algorithm.aggregation, max_tokens=max_tokens, groups=[number for number, _ in places]
    )
    rows: list[PolicyRow] = []
    for sequence, ((number, sample), episode) in enumerate(zip(places, episodes, strict=True)):
        for call in episode.calls:
            advantages = credit.advantages[number][sample][call.index]
            silent = not any(advantages) and not algorithm.kl_coef and credit.values is None
            if not trained[sequence][call.index] or silent:
                continue
            row = policy_row(
                episode,
                call,
                weight=weights[sequence][call.index],
                advantages=advantages,
                returns=credit.returns[number][sample][call.index] if credit.returns else (),
                values=credit.values[number][sample][call.index] if credit.values else (),
                sequence=sequence,
            )
            rows.append(row)
    if algorithm.critic is not None and algorithm.critic.level == "call":
        heads = at_call_heads([row.weights for row in rows])
        return [replace(row, value_weights=tuple(own)) for row, own in zip(rows, heads, strict=True)]
    return rows
