"""Truncated importance weight.

    w = min(rho, cap),   rho = pi_proximal / pi_behaviour at the level

Without a cap it is the weight of decoupled PPO (Hilton et al., arXiv 2110.00641; AReaL, arXiv 2505.24298),
which is unbiased. With one it is truncated importance sampling (TIS; Yao et al., "Your Efficient RL Framework
Secretly Brings You Off-Policy RL Training", 2025): some bias for bounded variance. Caps in use: 2 and 5.
"""

import torch

from rl.algorithms.corrections.levels import Level, at_level


def truncate(
    log_ratio: torch.Tensor, sequences: torch.Tensor, *, cap: float | None, level: Level
) -> torch.Tensor:
    """[N] log rho of tokens, [N] int64 sequence of each -> [N] weights, detached.

    Token losses are multiplied by them; denominators stay those of all tokens, and are no sum of weights.

    Example (cap 2, tokens): rho 0.5, 1, 8 -> 0.5, 1, 2
    """
    ratio = at_level(log_ratio, sequences, level).exp()
    return ratio if cap is None else ratio.clamp(max=cap)
