"""Estimators of KL(policy || reference) from the log-probabilities of sampled tokens (Schulman,
"Approximating KL").
"""

import torch


def k3(logprobs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """[N] exp(d) - d - 1 with d = reference - policy: unbiased under the policy's own samples, never
    negative.
    """
    difference = reference - logprobs
    return difference.exp() - difference - 1.0
