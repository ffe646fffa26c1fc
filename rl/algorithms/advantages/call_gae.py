"""Generalised advantage estimation over calls: the critic speaks once a call, not once a token.

Source: the utterance level of ArCHer (arXiv 2402.19446), as on-policy GAE over the episode DAG: a call is the
action, the text in front of it the state, and all its tokens get its advantage. With V_c the value of the
text before the first trained token of call c, and over its successors (rl.algorithms.advantages.gae)
    delta_c = r_c + gamma * mean V_c' - V_c          A_c = delta_c + gamma * lam * mean A_c'
where r_c is the sum of the rewards inside the call, plus R when no call waited for it. gamma and lam count
calls. The critic's target is A_c + V_c at that one token. A call without trained tokens passes on what its
successors give, without a discount.

What differs from ArCHer: no second critic of (state, utterance) pairs, no replay buffer, no target network.

Example (a chain of three calls of 2, 1 and 3 tokens), R = 1, gamma = 0.5, lam = 0.5, values at their
beginnings 0.25, 0.75 and 0.5:
    call 2: 1 - 0.5 = 0.5
    call 1: 0.5 * 0.5 - 0.75 + 0.25 * 0.5 = -0.375
    call 0: 0.5 * 0.75 - 0.25 + 0.25 * -0.375 = 0.03125, for both its tokens
"""

import math
from collections.abc import Sequence

from data.episodes.trajectory import Episode
from rl.algorithms.advantages.gae import estimate


def call_gae(
    episode: Episode,
    values: Sequence[Sequence[float]],
    reward: float,
    *,
    gamma: float,
    lam: float,
    placed: Sequence[Sequence[float]] | None = None,
) -> tuple[list[list[float]], list[list[float]]]:
    """([calls][trained] advantages, [calls][trained] returns); arguments as for `gae`.

    Of `values` only that at each call's first trained token counts; at the others the returns are the values
    themselves, which `at_call_heads` leaves out of the critic's loss.
    """
    heads = [of_call[:1] for of_call in values]
    given = [
        [math.fsum(of_call)] if of_call else [] for of_call in placed or [[0.0] * len(v) for v in values]
    ]
    found, targets = estimate(episode, heads, reward, gamma=gamma, lam=lam, placed=given)
    return (
        [advantage * len(of_call) for advantage, of_call in zip(found, values, strict=True)],
        [[*target, *of_call[1:]] for target, of_call in zip(targets, values, strict=True)],
    )


def at_call_heads(weights: Sequence[Sequence[float]]) -> list[list[float]]:
    """Weights of the critic's loss from those of the policy's, [rows][T]: all at the first token of each row
    that has any, the same for each, and as much in all.

    Example: [0.1, 0.1, 0], [0.1] and [0, 0] give [0.15, 0, 0], [0.15] and [0, 0].
    """
    total = math.fsum(weight for of_row in weights for weight in of_row)
    trained = sum(any(of_row) for of_row in weights)
    return [
        [total / trained * (place == 0) if any(of_row) else 0.0 for place in range(len(of_row))]
        for of_row in weights
    ]
