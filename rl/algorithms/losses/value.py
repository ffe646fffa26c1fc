"""The critic's loss, with the step away from the old value bounded (PPO2's clipped value loss).

L_t = 1/2 max( (V_t - G_t)^2, (clip(V_t, V_t^old - c, V_t^old + c) - G_t)^2 )      G: the return
"""

import torch


def value_loss(
    values: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, *, clip: float | None
) -> torch.Tensor:
    """[N] loss of each token; without `clip` half the squared error.

    Example: V 0.9, V_old 0.5, G 1, c 0.2: max(0.01, (0.7 - 1)^2) / 2 = 0.045, without gradient.
    """
    error = (values - returns) ** 2
    if clip is not None:
        bounded = old + (values - old).clamp(-clip, clip)
        error = torch.maximum(error, (bounded - returns) ** 2)
    return 0.5 * error
