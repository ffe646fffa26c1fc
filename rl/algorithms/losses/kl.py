"""Estimators of KL(policy || reference) from the log-probabilities of sampled tokens (Schulman,
"Approximating KL").

    d = log reference - log policy;   k1 = -d,   k2 = d^2 / 2,   k3 = exp(d) - d - 1

As values: k1 and k3 are unbiased under the policy's own samples, k2 is not; k2 and k3 are never negative.
As losses, differentiated with the samples held fixed, they differ more: on average the gradient of k2 is that
of KL(policy || reference), the gradient of k3 that of KL(reference || policy), and the gradient of k1 is
zero, so that k1 has no effect.
"""

from collections.abc import Callable

import torch


def k1(logprobs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """[N] policy - reference, of either sign. Example: -1.0 and -1.5 -> 0.5"""
    return logprobs - reference


def k2(logprobs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """[N] half the squared difference. Example: -1.0 and -1.5 -> 0.125"""
    return 0.5 * (logprobs - reference).square()


def k3(logprobs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """[N] exp(d) - d - 1 with d = reference - policy: unbiased under the policy's own samples, never
    negative.
    """
    difference = reference - logprobs
    return difference.exp() - difference - 1.0


KL: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {"k1": k1, "k2": k2, "k3": k3}
"""KL estimators by their names in recipes."""
