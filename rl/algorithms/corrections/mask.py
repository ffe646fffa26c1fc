"""Masked importance weight: tokens with a ratio outside the bounds are left out, not shrunk.

    w = rho (or 1) where lower <= rho <= upper, else 0,   rho = pi_proximal / pi_behaviour at the level

    masked importance sampling   0 .. 3, sequence, rho          "When Speed Kills Stability" (Liu et al. 2025)
    IcePop                       0.5 .. 5, token, rho           Ring-1T (arXiv 2510.18855)
    geometric rejection          0.99 .. 1.01, sequence_mean, 1

A truncated weight would still learn from a token on which sampler and learner contradict each other.
"""

import torch

from rl.algorithms.corrections.levels import Level, at_level


def mask(
    log_ratio: torch.Tensor,
    sequences: torch.Tensor,
    *,
    lower: float,
    upper: float,
    level: Level,
    keep_ratio: bool,
) -> torch.Tensor:
    """[N] log rho of tokens, [N] int64 sequence of each -> [N] weights, detached. The bounds are inside.

    Token losses are multiplied by them; denominators stay those of all tokens, masked ones included. In a
    mean over what is kept, each kept token would weigh the more the fewer are left.

    Example (0.5 .. 5, tokens): rho 0.4, 0.5, 2, 8 -> 0, 0.5, 2, 0; without `keep_ratio` 0, 1, 1, 0
    """
    ratio = at_level(log_ratio, sequences, level).exp()
    kept = (ratio >= lower) & (ratio <= upper)
    return torch.where(kept, ratio if keep_ratio else torch.ones_like(ratio), 0.0)
