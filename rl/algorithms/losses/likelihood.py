"""Log-likelihood times advantage.

    l_t = -A_t logp_t

REINFORCE (Williams, 1992), and the loss of P-GRPO (ThreadWeaver, arXiv 2512.07843). PAPO (NPR, arXiv
2512.07461) writes -A_t exp(logp_t - sg(logp_t)), whose value is -A_t and whose gradient is this one's.
There is no ratio, so no token is ever clipped, structural tokens included; and nothing corrects for samples
of another policy, so use one update per batch.
"""

import torch

from rl.algorithms.losses.token_loss import TokenLoss


def likelihood_loss(logprobs: torch.Tensor, advantages: torch.Tensor) -> TokenLoss:
    """All tensors [N]. Example: A 2, logp -0.5 -> 1.0, gradient -2"""
    clipped = torch.zeros_like(logprobs, dtype=torch.bool)
    return TokenLoss(values=-advantages * logprobs, clipped=clipped)
