"""Settings of a stage's learner. In its own module, so that the driver does not import torch."""

from dataclasses import dataclass

from rl.config import Recipe
from rl.config.engine import Precision
from rl.config.model import ScratchModel
from rl.config.stages import RlStage, threads_of
from rl.seeds import purpose_seed


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerSettings:
    """Settings that are sent to the learner's process."""

    stage: RlStage
    max_tokens: int
    """Most sampled tokens of an episode (denominator of the aggregation "constant")."""
    vocabulary: int | None = None
    """Number of the tokenizer's ids, see `rl.learner.logprobs.score_forests`."""
    seed: int = 0
    """Seed of the adapters' initial weights; the same on every rank."""
    publish_dtype: Precision = "float32"
    """Number format of published weights: the one that engines serve in."""
    threads: int | None = 1
    """CPU threads of a rank; None: the machine's cores shared by its ranks."""


def settings_of(recipe: Recipe, stage: RlStage, vocabulary: int) -> LearnerSettings:
    """The settings of one stage's learner; `vocabulary`: number of the tokenizer's ids."""
    return LearnerSettings(
        stage=stage,
        vocabulary=vocabulary,
        max_tokens=min(1 << 20, recipe.protocol_of(stage).budgets.total_tokens),
        seed=purpose_seed(recipe.seed, f"{stage.name}/lora"),
        publish_dtype=recipe.engine.dtype,
        threads=threads_of(stage, scratch=isinstance(recipe.model, ScratchModel)),
    )
