"""PRIME's return of token rewards, against the other episodes of the group, for calls that can run beside
each other (arXiv 2502.01456).

    A_t = sum over s >= t of (r_s - b_i)        b_i = mean over the others j != i of m_j
                                                m_j = mean of the token rewards of episode j

To it PRIME adds the leave-one-out advantage of the outcome (rl.algorithms.advantages.leave_one_out). The
baseline is the reward of a token, not of an episode: an episode is not credited for writing more tokens than
others, unless these are better than theirs. (Its published code has r_s n / (n - 1) - sum_j m_j / (n - 1),
with the episode's own m_i in the sum, which has the same mean over the tokens of an episode.)

What comes after a token in an episode that forks is that of rl.algorithms.advantages.gae, with gamma = lambda
= 1 and no values: the rest of its call, then the mean over the calls that waited for it. A child's token is
credited with the rest of its thread and with what its parent makes of the result, not with its siblings; a
parent's token before a fork with the mean of its threads and its own resumption, so that forking more adds
no reward of its own.

Example (two episodes of one call): rewards 0.2, 0.4 and 0, 0.1, 0.2. m = 0.3 and 0.1, so b = 0.1 and 0.3:
    first   0.1 + 0.3 = 0.4, 0.3
    second  -0.3 - 0.2 - 0.1 = -0.6, -0.3, -0.1
"""

import math
from collections.abc import Sequence

from data.episodes.trajectory import Episode
from rl.algorithms.advantages.gae import gae

PerCall = list[list[list[float]]]
"""[G episodes][calls][trained tokens]"""


def token_baselines(means: Sequence[float | None]) -> list[float | None]:
    """[G] mean of the other episodes' mean token rewards; None for an episode without one, and where no
    other has one.
    """
    known = [value for value in means if value is not None]
    if len(known) < 2:
        return [None] * len(means)
    total = math.fsum(known)
    return [None if value is None else (total - value) / (len(known) - 1) for value in means]


def implicit_returns(
    episodes: Sequence[Episode],
    rewards: PerCall,
    *,
    counted: Sequence[Sequence[bool]],
    graded: Sequence[bool],
) -> PerCall:
    """The return of every trained token of a group; 0 in episodes that are not `graded` [G], and where there
    is no other one to compare with.

    `counted`: [G][calls] whether the tokens of a call have rewards; the others are passed over.
    """
    means: list[float | None] = []
    for of_episode, chosen, known in zip(rewards, counted, graded, strict=True):
        tokens = [value for call, takes in zip(of_episode, chosen, strict=True) if takes for value in call]
        means.append(math.fsum(tokens) / len(tokens) if tokens and known else None)
    found = []
    for episode, of_episode, chosen, baseline in zip(
        episodes, rewards, counted, token_baselines(means), strict=True
    ):
        zeros = [[0.0] * len(call) for call in of_episode]
        if baseline is None:
            found.append(zeros)
            continue
        centred = [
            [value - baseline for value in call] if takes else [0.0] * len(call)
            for call, takes in zip(of_episode, chosen, strict=True)
        ]
        found.append(gae(episode, zeros, 0.0, gamma=1.0, lam=1.0, placed=centred)[0])
    return found
