"""The number format of a stage that leaves it to the machine (`precision: auto`)."""

from rl.config.recipe import Recipe
from rl.preflight.hardware import Machine, probe


def with_precision(recipe: Recipe, machine: Machine | None = None) -> Recipe:
    """The recipe with each `precision: auto` decided: bfloat16 on CUDA, or on a CPU that computes it itself.

    A run decides once, when it is made, and keeps the format in its recipe.json.
    """
    if not any(stage.precision == "auto" for stage in recipe.training_stages()):
        return recipe
    machine = machine or probe()
    device = machine.device if recipe.engine.device == "auto" else recipe.engine.device
    found = "bfloat16" if device == "cuda" or not machine.emulates_bfloat16 else "float32"
    stages = tuple(
        stage.model_copy(update={"precision": found}) if getattr(stage, "precision", "") == "auto" else stage
        for stage in recipe.stages
    )
    return recipe.model_copy(update={"stages": stages})
