"""Clipped ratio of whole sequences.

    log s_t = logp_t - sg(logp_t) + sg(mean over the sequence of (logp - proximal))
    l_t     = -min(s_t A_t, clip(s_t, 1 - eps_low, 1 + eps_high) A_t)

GSPO in its token form (arXiv 2507.18071, section 4.3; sg stops gradients). The value of s_t is the sequence's
geometric mean of ratios, its gradient is the token's own. With one advantage a sequence and every sequence
averaged over its tokens (aggregation `sequence`), that is GSPO itself. A geometric mean moves far less than
the ratio of one token, hence the published bounds 3e-4 and 4e-4.
"""

import torch

from rl.algorithms.losses.clip import clip_loss
from rl.algorithms.losses.token_loss import TokenLoss


def sequence_clip_loss(
    logprobs: torch.Tensor,
    proximal: torch.Tensor,
    advantages: torch.Tensor,
    sequence_ratio: torch.Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> TokenLoss:
    """All tensors [N]. `sequence_ratio` is a logarithm: the mean of logp - proximal over all trained tokens
    of the token's sequence, of which only some may be at hand. `proximal` is already in it, and is here to be
    called like the other losses.

    Example (bounds 3e-4 and 4e-4; a sequence with log-ratios 0.0010 and -0.0004, A = 1):
        sequence_ratio 0.0003 for both -> both -1.0003, not clipped; the ratio of the first alone would be
    """
    assert logprobs.shape == proximal.shape == advantages.shape == sequence_ratio.shape
    # The difference is an exact 0: with bounds this narrow, rounding sequence_ratio to logprobs would show.
    log_ratio = logprobs - logprobs.detach() + sequence_ratio.detach()
    return clip_loss(
        log_ratio,
        torch.zeros_like(log_ratio),
        advantages,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=None,
    )
