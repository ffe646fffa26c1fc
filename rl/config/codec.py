"""The codec of a recipe's model."""

from data.tasks.base import GeneratedTask
from data.tasks.registry import build_task
from data.text.build_words import build_tokenizer
from data.text.codec import Codec, load_codec
from data.text.structure import add_structural_tokens
from rl.config.model import ScratchModel
from rl.config.recipe import Recipe
from rl.config.words import recipe_vocabulary
from rollout.protocols.shared.framing import framing_of


def make_codec(recipe: Recipe) -> Codec:
    """Tokenizer with the tags of the recipe's protocols: built from scratch, or the pretrained one.

    Raises ConfigError for a pretrained tokenizer that cannot be used.
    """
    model = recipe.model
    if isinstance(model, ScratchModel):
        tags, words = recipe_vocabulary(recipe, "tags")
        configs = dict.fromkeys((recipe.task, *map(recipe.task_of, recipe.stages)))
        tasks = [build_task(config.params) for config in configs]
        own = [word for task in tasks if isinstance(task, GeneratedTask) for word in task.words()]
        every = [*tags, *own, *words]
        return Codec(build_tokenizer(every, numbers=model.numbers, digits=model.digits))
    codec = load_codec(model.path)
    if model.tags == "add":
        tags, _ = recipe_vocabulary(recipe, framing_of(None, codec).kind)
        add_structural_tokens(codec.tokenizer, tags)
        return Codec(codec.tokenizer, codec.ends)
    return codec


def missing_tags(recipe: Recipe, codec: Codec) -> list[str]:
    """Tags of the recipe's protocols that are not one token of this codec."""
    tags, _ = recipe_vocabulary(recipe, framing_of(None, codec).kind)
    return [tag for tag in tags if codec.tag(tag) is None]
