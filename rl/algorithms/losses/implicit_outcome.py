"""Cross-entropy of an implicit reward model against verified outcomes.

    L = mean over episodes of -(o log s + (1 - o) log(1 - s))        s = sigmoid(sum over t of r_t)

o is 1 for a right answer and 0 for a wrong one; r_t is the reward of a token, beta included
(rl.algorithms.advantages.log_ratio); the sum runs over all trained tokens of an episode, whichever call they
belong to. Source: PRIME, arXiv 2502.01456, and arXiv 2412.01981 before it.

Example: one episode whose tokens sum to log 3, so that s = 3/4: right, log(4/3) = 0.2877; wrong, log 4 =
1.3863. While all rewards are 0, s is 1/2 and the loss log 2.
"""

import torch


def implicit_outcome_loss(sums: torch.Tensor, outcomes: torch.Tensor) -> torch.Tensor:
    """Mean loss, a scalar; `sums` [E] of each episode's token rewards, `outcomes` [E] of 0 and 1."""
    return torch.nn.functional.binary_cross_entropy_with_logits(sums, outcomes)
