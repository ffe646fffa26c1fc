"""Advantages from rewards with a place: of single calls, and of steps inside calls.

Process supervision of GRPO (arXiv 2402.03300, section 4.1.3), for calls that can run beside each other:

    r~_j = the estimator of the stage over all steps of a group        with "group_std": (r_j - mean) / std
    A_t  = sum of r~_j over the steps of the token's own call that end at t or later

A call's own reward counts for all its tokens; rewards of calls are compared with each other, those of steps
with each other. Sums do not cross calls: a thread is not credited for what its siblings or its parent went
on to do, and forking more does not add rewards to the tokens before the fork. These advantages are added to
those of the episode. With a critic rewards take their place in GAE instead (rl.algorithms.advantages.gae).

Example ("group_mean"; one call of 4 tokens, steps [0, 2) with 1 and [2, 4) with 0; another with a step [0, 3)
with 0.5): the mean is 0.5, r~ = 0.5, -0.5 and 0.
    first call   tokens 0, 1: 0.5 - 0.5 = 0    tokens 2, 3: -0.5
    second call  0, 0, 0
"""

from collections.abc import Sequence

from data.episodes.trajectory import Episode
from rewards.score import Score
from rl.algorithms.advantages.estimator import Estimator

PerCall = list[list[list[list[float]]]]
"""[P groups][G episodes][calls][trained tokens]"""


def placed_advantages(
    groups: Sequence[tuple[Sequence[Episode], Sequence[Score]]], estimate: Estimator
) -> PerCall:
    """Advantages of every trained token from the rewards with a place; 0 where there are none.

    `estimate`: from values, [P][steps of the group], to advantages of the same shape.
    """
    found: PerCall = [
        [[[0.0] * call.num_trained for call in episode.calls] for episode in episodes]
        for episodes, _ in groups
    ]
    for kind in ("calls", "steps"):
        placed = [
            [(sample, reward) for sample, score in enumerate(scores) for reward in getattr(score, kind)]
            for _, scores in groups
        ]
        if not any(placed):
            continue
        values = estimate([[reward.value for _, reward in of_group] for of_group in placed])
        for group, (of_group, credits) in enumerate(zip(placed, values, strict=True)):
            for (sample, reward), value in zip(of_group, credits, strict=True):
                tokens = found[group][sample][reward.call]
                for token in range(min(len(tokens), getattr(reward, "stop", len(tokens)))):
                    tokens[token] += value
    return found


def placed_rewards(episode: Episode, score: Score) -> list[list[float]]:
    """[calls][trained] the rewards with a place, each at the last trained token of its step or call.

    What lies in a call without trained tokens is left out: no token can be credited with it.
    """
    found = [[0.0] * call.num_trained for call in episode.calls]
    for reward in score.local_rewards:
        tokens = found[reward.call]
        if tokens:
            tokens[min(len(tokens), getattr(reward, "stop", len(tokens))) - 1] += reward.value
    return found
