"""The proximal policy without a forward pass: a point between behaviour and current policy.

    logp_proximal = logp_behave + alpha (sg(logp_theta) - logp_behave)
    alpha         = (v_proximal - v_behave) / (v_theta - v_behave)

A-3PO (arXiv 2512.06547; sg stops gradients). v are weight versions: from behaviour to current
policy, the log-probability is taken to have moved by an equal step with every version.
"""

import torch


def interpolated_proximal(
    behaviour: torch.Tensor,
    current: torch.Tensor,
    behaviour_version: torch.Tensor,
    current_version: int,
    proximal_version: int,
) -> torch.Tensor:
    """[N] log-probabilities of the policy that sampled and of the one being trained, [N] int64 version that
    sampled each token -> [N] log-probabilities of the proximal policy, detached.

    alpha stays within 0 and 1: a token sampled after the proximal version keeps its own log-probability.
    Where the current version did the sampling, alpha is 1: its ratio is that of the current policy to itself.

    Example (versions: current 4, proximal 3; logp_theta - logp_behave = 0.8):
        sampled by 0 -> + 0.6;   by 2 -> + 0.4;   by 3 -> + 0;   by 4 -> + 0.8
    """
    behaviour, current = behaviour.detach(), current.detach()
    gap = (current_version - behaviour_version).to(behaviour.dtype)
    since = (proximal_version - behaviour_version).to(behaviour.dtype)
    alpha = torch.where(gap == 0, 1.0, (since / gap).clamp(0.0, 1.0))  # 0 / 0 is nan, and not taken
    return behaviour + alpha * (current - behaviour)
