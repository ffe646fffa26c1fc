"""Capped importance weight on the log-likelihood.

    l_t = -sg(clip(r_t, cap_low, cap_high)) A_t logp_t,   r_t = exp(logp_t - proximal_t)

CISPO (MiniMax-M1, arXiv 2506.13585, eqs. 4 and 5; sg stops gradients). A ratio clip drops the gradient of
tokens that moved far, and rare tokens that open a new line of thought move farthest. Here all tokens keep a
gradient, of bounded weight. The caps are absolute: ScaleRL (arXiv 2510.13786) has min(r, 5), so `cap_high` 5
and no `cap_low`.
"""

import torch

from rl.algorithms.losses.token_loss import TokenLoss


def cispo_loss(
    logprobs: torch.Tensor,
    proximal: torch.Tensor,
    advantages: torch.Tensor,
    *,
    cap_low: float | None,
    cap_high: float,
) -> TokenLoss:
    """All tensors [N]. The gradient is the meaning; the value depends on logp itself and may have any size.
    `clipped` is where a cap changed the weight.

    Example (cap_high 5): r 8, A 2, logp -0.5 -> 5.0, gradient -10 (not -16), clipped
    """
    ratio = (logprobs.detach() - proximal).exp()
    weight = ratio.clamp(min=cap_low, max=cap_high)
    return TokenLoss(values=-weight * advantages * logprobs, clipped=(weight != ratio) & (advantages != 0))
