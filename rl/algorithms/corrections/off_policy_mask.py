"""Leaves out bad sequences that the policy has moved away from.

    w = 0 for a sequence with A < 0 and mean over its tokens of (log behaviour - log proximal) > delta, else 1

Off-policy sequence masking of DeepSeek-V3.2 (arXiv 2512.02556). A mistake that the policy would hardly make
any more teaches it nothing, and pushing it further down costs stability; a success of another policy is still
worth imitating. The mean estimates KL(behaviour || proximal) per token.
"""

import torch

from rl.algorithms.corrections.levels import at_level, sum_of_sequence


def off_policy_mask(
    log_ratio: torch.Tensor, sequences: torch.Tensor, advantages: torch.Tensor, *, delta: float
) -> torch.Tensor:
    """[N] log rho = log proximal - log behaviour, [N] int64 sequence of each token, [N] advantages -> [N]
    weights 0 or 1, detached.

    A sequence is bad when the mean advantage of its tokens is below 0. Token losses are multiplied by the
    weights; denominators stay those of all tokens, masked ones included.

    Example (delta 0.5; log rho -1.0 and -0.2, mean 0.6 off): A -1 -> 0, 0;   A 1 -> 1, 1
    """
    distance = -at_level(log_ratio, sequences, "sequence_mean")
    bad = sum_of_sequence(advantages.detach(), sequences) < 0  # the sign of the mean
    return torch.where(bad & (distance > delta), 0.0, torch.ones_like(distance))
