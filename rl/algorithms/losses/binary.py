"""Cross-entropy of one reward against a label between 0 (wrong) and 1 (right).

    loss = -(y log p + (1 - y) log(1 - p))        p = sigmoid(reward)

Example: reward log 3, so that p = 3/4. Label 1: log(4/3) = 0.2877. Label 0: log 4 = 1.3863. Label 1/2: their
mean, 0.8370.
"""

import torch


def binary_loss(rewards: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """[L] loss of each label; rewards [L], any numbers, and labels [L] in [0, 1]."""
    return torch.nn.functional.binary_cross_entropy_with_logits(
        rewards.float(), labels.float(), reduction="none"
    )
