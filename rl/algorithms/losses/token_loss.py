"""Return type of every policy loss."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenLoss:
    """The loss of each trained token, before any weight.

    Example (`clip_loss`, bounds 0.2; ratios 1.1 and 1.5, advantages 2 and 2):
        TokenLoss(values=tensor([-2.2, -2.4]), clipped=tensor([False, True]))
    """

    values: torch.Tensor
    """[N] differentiable. Weighted by `rl.algorithms.losses.aggregation`, the sum is the loss of the step."""
    clipped: torch.Tensor
    """[N] bool, detached: where the trust region cut the gradient off, or made it smaller (CISPO)."""
