"""What the learner needs beside its stage of the recipe. Apart from `rl.learner.learner`, so that the driver
need not import torch.
"""

from dataclasses import dataclass

from rl.config import Recipe
from rl.config.stages import RlStage
from rl.seeds import purpose_seed


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerSettings:
    """Crosses to the learner's process."""

    stage: RlStage
    max_tokens: int
    """Sampled tokens an episode may have at most (denominator of the aggregation "constant")."""
    seed: int = 0
    """Seed of the adapters' initial weights; the same on every rank."""


def settings_of(recipe: Recipe, stage: RlStage) -> LearnerSettings:
    """The settings of one stage's learner."""
    return LearnerSettings(
        stage=stage,
        max_tokens=min(1 << 20, recipe.protocol_of(stage).budgets.total_tokens),
        seed=purpose_seed(recipe.seed, f"{stage.name}/lora"),
    )
