"""Loss of pairs of which one is better (Bradley and Terry 1952; of reward models: arXiv 2203.02155).

    loss = -log sigmoid(r_better - r_worse - margin) + center (r_better + r_worse)^2

r are the model's rewards, any numbers. Only differences count in the first term; the second keeps rewards
around 0 (arXiv 2312.09244). A margin (Llama 2, arXiv 2307.09288) asks for a larger difference.

Example: rewards log 3 and 0. Without a margin -log(3/4) = 0.2877. With margin log 3 the better one is as good
as required and no better: log 2 = 0.6931. With center 0.1 and no margin 0.2877 + 0.1 (log 3)^2 = 0.4084.
"""

import torch


def bradley_terry_loss(
    better: torch.Tensor, worse: torch.Tensor, margins: torch.Tensor, *, center: float = 0.0
) -> torch.Tensor:
    """[P] loss of each pair; rewards [P] of both sides and margins [P]."""
    better, worse = better.float(), worse.float()
    loss = -torch.nn.functional.logsigmoid(better - worse - margins)
    return loss + center * (better + worse) ** 2 if center else loss
