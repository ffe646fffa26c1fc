"""Newton-Schulz iteration of Muon: the nearest matrix with orthonormal rows, roughly."""

import torch


def newton_schulz(
    gradient: torch.Tensor, coefficients: tuple[float, float, float], steps: int, epsilon: float
) -> torch.Tensor:
    """[m, n] -> [m, n], in the number format of the gradient.

        X = G / max(|G|, epsilon)
        X <- a X + (b A + c A A) X    with A = X X^T, `steps` times

    On the smaller side: m > n works on the transpose. Singular values become 1 up to a factor of about two.
    Source: Muon (Jordan, 2024), as in torch.optim.Muon, which computes it in bfloat16.
    """
    a, b, c = coefficients
    tall = gradient.size(0) > gradient.size(1)
    x = gradient.T if tall else gradient
    x = x / x.norm().clamp(min=epsilon)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
