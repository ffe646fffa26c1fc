"""Trust region on the probability of a token, not on its ratio.

    l_t = -r_t A_t,   r_t = p / q,   p = exp(logp_t),   q = exp(proximal_t)
    without gradient where   A_t > 0 and p - q > delta   or   A_t < 0 and p - q < -delta

DPPO with the binary estimate of total variation (arXiv 2602.04879): |p - q| is that distance between the two
policies when all other tokens count as one. A bound of 1.28 on the ratio stops a rare token that went from
0.001 to 0.002, which changes next to nothing, and lets a common one go from 0.76 to 0.97.
"""

import torch

from rl.algorithms.losses.token_loss import TokenLoss


def dppo_tv_loss(
    logprobs: torch.Tensor, proximal: torch.Tensor, advantages: torch.Tensor, *, delta: float
) -> TokenLoss:
    """All tensors [N]. A token beyond the region keeps its loss value and loses its gradient, unless the
    gradient would move it back.

    Example (delta 0.2):
        q 0.1   p 0.4    A  1   -> -4.0, clipped: 0.3 too likely
        q 0.1   p 0.4    A -1   ->  4.0, gradient 4: on its way back
        q 0.001 p 0.002  A  1   -> -2.0, gradient -2: a ratio of 2, but a probability as good as unmoved
    """
    ratio = (logprobs - proximal).exp()
    moved = logprobs.detach().exp() - proximal.exp()
    clipped = ((advantages > 0) & (moved > delta)) | ((advantages < 0) & (moved < -delta))
    return TokenLoss(values=-torch.where(clipped, ratio.detach(), ratio) * advantages, clipped=clipped)
