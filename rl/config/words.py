"""The words that a recipe's protocols need in a tokenizer."""

from rl.config.model import ScratchModel
from rl.config.recipe import Recipe
from rollout.protocols import PROTOCOLS, default_params, vocabulary
from rollout.protocols.shared.framing_params import FramingKind


def recipe_vocabulary(recipe: Recipe, framing: FramingKind) -> tuple[list[str], list[str]]:
    """(structural tags, further words) of all protocols in the recipe, each once, in the registry's order.

    `framing`: its kind where a protocol leaves it out.
    """
    params = [recipe.protocol, *(recipe.protocol_of(stage) for stage in recipe.stages)]
    if isinstance(recipe.model, ScratchModel):
        params += [default_params(name) for name in recipe.model.protocols]
    order = list(PROTOCOLS)
    params.sort(key=lambda param: order.index(param.name))
    found = [vocabulary(param, framing) for param in params]
    tags = dict.fromkeys(tag for tags, _ in found for tag in tags)
    words = dict.fromkeys(word for _, words in found for word in words)
    return list(tags), list(words)
