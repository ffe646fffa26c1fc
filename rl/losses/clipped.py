"""Clipped policy-gradient loss.

    L = - sum_t w_t min(r_t A_t, clip(r_t, 1 - eps_low, 1 + eps_high) A_t),   r_t = exp(logp_t - behaviour_t)

PPO (arXiv 1707.06347, eq. 7) with the asymmetric bounds of DAPO (arXiv 2503.14476, eq. 8). The weights
w_t carry the aggregation and its denominator (see `rl.losses.aggregation`), so the loss itself is a plain
sum.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class ClippedLoss:
    """`loss` is differentiable; the others are detached diagnostics over the weighted tokens."""

    loss: torch.Tensor
    clipped_share: torch.Tensor
    """Share of tokens whose ratio the clip cut off (the branch without gradient was taken)."""
    approximate_kl: torch.Tensor
    """Mean of r - 1 - log r (k3) between the behaviour policy and the current one."""
    max_ratio: torch.Tensor


def clipped_loss(
    logprobs: torch.Tensor,
    behaviour: torch.Tensor,
    advantages: torch.Tensor,
    weights: torch.Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> ClippedLoss:
    """All arguments [N] over trained tokens. `behaviour` are the log-probabilities recorded at the engine."""
    log_ratio = logprobs - behaviour
    ratio = log_ratio.exp()
    unclipped = ratio * advantages
    clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high) * advantages
    loss = -(weights * torch.minimum(unclipped, clipped)).sum()
    with torch.no_grad():
        return ClippedLoss(
            loss=loss,
            clipped_share=(clipped < unclipped).float().mean(),
            approximate_kl=(ratio - 1.0 - log_ratio).mean(),
            max_ratio=ratio.max(),
        )
