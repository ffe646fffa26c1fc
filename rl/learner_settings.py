"""What the learner needs beside its stage of the recipe. Apart from `rl.learner`, so that the driver need
not import torch.
"""

from dataclasses import dataclass

from rl.config.stages import RlStage


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerSettings:
    """Crosses to the learner's process."""

    stage: RlStage
    max_tokens: int
    """Sampled tokens an episode may have at most (denominator of the aggregation "constant")."""
    seed: int = 0
    """Of the adapters' first weights; the same on every rank."""
