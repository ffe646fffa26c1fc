"""Check of the files of better and worse answers that a reward model learns from."""

from collections.abc import Sequence

from data.errors import ConfigError
from rl.config.codec import make_codec
from rl.config.model import PretrainedModel, ScratchModel
from rl.config.recipe import Recipe
from rl.config.stages import RewardModelStage
from rl.preflight.check_result import CheckResult
from rl.preflight.sizes import refusal
from rl.scorers.preference_file import Preference, preference_pairs, read_preferences

_READ = 100
"""Rows whose tokens are counted."""


def check_preferences(recipe: Recipe, stage: RewardModelStage) -> CheckResult:
    """The files exist, and every row has both answers; messages where the model may have a template.

    Raises ConfigError, naming file and row.
    """
    rows: list[tuple[Preference, str]] = []
    for index, pattern in enumerate(stage.preferences):
        try:
            rows += read_preferences([pattern])
        except ConfigError as error:
            key = f"{stage.name}.preferences.{index}"
            raise refusal(recipe, key, str(pattern), str(error), "correct it, or leave it out") from error
    kinds = ["text" if isinstance(row.better, str) else "messages" for row, _ in rows]
    if "messages" in kinds and isinstance(recipe.model, ScratchModel):
        reason = "holds conversations, and a model from random weights has no chat template"
        raise refusal(
            recipe, f"{stage.name}.preferences", None, reason, "give texts, or use a pretrained model"
        )
    if isinstance(recipe.model, PretrainedModel):
        _ensure_readable(recipe, stage, rows[:_READ])
    counts = " and ".join(f"{kinds.count(kind)} of {kind}" for kind in sorted(set(kinds)))
    margins = sum(row.margin is not None for row, _ in rows)
    asked = len({row.asked for row, _ in rows})
    found = f"compares {len(rows)} pairs ({counts}), {asked} prompts, {margins} margins"
    return CheckResult(about=f"stage {stage.name}", found=found)


def _ensure_readable(recipe: Recipe, stage: RewardModelStage, rows: Sequence[tuple[Preference, str]]) -> None:
    """Raises ConfigError when the tokenizer or its chat template refuses a row, or no row fits."""
    key, most = f"{stage.name}.preferences", min(stage.forest_tokens, recipe.model.max_length)
    try:
        pairs = list(preference_pairs(rows, make_codec(recipe), margin=0.0))
    except ConfigError as error:
        raise refusal(recipe, key, None, str(error), "correct the row, or take another model") from error
    shortest = min(max(len(pair.better.row), len(pair.worse.row)) for pair in pairs)
    if shortest > most:
        reason = f"all of its first {len(pairs)} pairs have an answer of {shortest} tokens or more"
        remedy = f"raise {stage.name}.forest_tokens and model.max_length, or shorten them"
        raise refusal(recipe, key, None, reason, remedy)
