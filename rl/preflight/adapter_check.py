"""Check of the layers that get adapters."""

from collections.abc import Iterator, Sequence

from rl.config.lora import Lora
from rl.config.model import ScratchModel
from rl.config.recipe import Recipe
from rl.config.stages import RlStage
from rl.preflight.sizes import refusal

_LAYERS = {
    "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}


def scratch_layers(model: ScratchModel) -> list[str]:
    """Dotted paths of the linear layers of a model from random weights, whose architectures agree in them."""
    return [
        f"model.layers.{layer}.{block}.{name}"
        for layer in range(model.num_layers)
        for block, names in _LAYERS.items()
        for name in names
    ]


def check_adapters(recipe: Recipe, layers: Sequence[str]) -> None:
    """Raises ConfigError where adapters are to be put on a layer that the model does not have.

    `layers`: dotted paths of its linear layers.
    """
    for key, lora in _adapters(recipe):
        if unmatched := lora.unmatched(layers):
            names = ", ".join(sorted({path.rsplit(".", 1)[-1] for path in layers}))
            reason = f"the model has no linear layer {', '.join(unmatched)}"
            raise refusal(recipe, f"{key}.targets", list(lora.targets), reason, f"choose from {names}")


def _adapters(recipe: Recipe) -> Iterator[tuple[str, Lora]]:
    """Every section of adapters with its key."""
    for stage in recipe.training_stages():
        if stage.lora is not None:
            yield f"{stage.name}.lora", stage.lora
        if isinstance(stage, RlStage) and stage.algorithm.implicit is not None:
            yield f"{stage.name}.algorithm.implicit.lora", stage.algorithm.implicit.lora
