"""Clipped probability ratio.

    J_t = min(r_t A_t, clip(r_t, 1 - eps_low, 1 + eps_high) A_t),   r_t = exp(logp_t - proximal_t)
    l_t = -J_t;   with a dual clip c > 1, where A_t < 0:   l_t = -max(J_t, c A_t)

PPO (arXiv 1707.06347, eq. 7), with the two bounds of DAPO (arXiv 2503.14476, eq. 8), and the dual clip of
"Mastering Complex Control in MOBA Games" (arXiv 1912.09729). Without the dual clip, a token with A < 0
that has become much more likely has a loss without bound: the minimum always takes its r A.
"""

import torch

from rl.algorithms.losses.token_loss import TokenLoss


def clip_loss(
    logprobs: torch.Tensor,
    proximal: torch.Tensor,
    advantages: torch.Tensor,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None,
) -> TokenLoss:
    """All tensors [N] over trained tokens.

    Example (bounds 0.2, dual clip 3):
        r 1.5  A  2   -> -2.4, clipped: likely enough already
        r 0.5  A  2   -> -1.0: the unclipped 1.0 is less than 0.8 * 2, so it is still pulled up
        r 5    A -1   ->  3.0, clipped by the dual clip; 5.0 without it
    """
    ratio = (logprobs - proximal).exp()
    unclipped = ratio * advantages
    in_range = ratio.clamp(1.0 - clip_low, 1.0 + clip_high) * advantages
    objective = torch.minimum(unclipped, in_range)
    clipped = in_range < unclipped
    if dual_clip is not None:
        bound = dual_clip * advantages
        below = (advantages < 0) & (objective < bound)
        objective = torch.where(below, bound, objective)
        clipped = clipped | below
    return TokenLoss(values=-objective, clipped=clipped)
