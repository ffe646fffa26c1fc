"""Cross-entropy of two classes against a label between 0 (wrong) and 1 (right).

    loss = -(y log p(right) + (1 - y) log p(wrong))        p = softmax(logits)

With hard labels it is the token classification loss of Hugging Face models.

Example: logits (0, log 3), so that p(right) = 3/4. Label 1: log(4/3) = 0.2877. Label 0: log 4 = 1.3863.
Label 1/2: their mean, 0.8370.
"""

import torch


def soft_label_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """[L] loss of each label; logits [L, 2] (wrong, right) and labels [L] in [0, 1]."""
    wrong, right = torch.log_softmax(logits.float(), dim=-1).unbind(-1)
    return -(labels * right + (1.0 - labels) * wrong)
