"""Checks of a user's own rows: layout, answers, duplicates, overlap of splits, lengths in real tokens."""

from collections.abc import Iterator

from rl.config.recipe import Recipe
from rl.config.task import DatasetTask
from rl.preflight.check_result import CheckResult


def check_datasets(recipe: Recipe) -> Iterator[CheckResult]:
    """Every row of every data set becomes a problem that fits the model, or is left out by stated policy.

    Raises ConfigError naming file and row.
    """
    configs = dict.fromkeys((recipe.task, *(recipe.task_of(stage) for stage in recipe.stages)))
    for config in configs:
        if not isinstance(config, DatasetTask):
            continue
        from rl.problems import load_dataset
        from rl.stages.context import make_codec

        for split, loaded in load_dataset(recipe, config, make_codec(recipe)).items():
            longest = f"; longest prompt with its calls {loaded.longest} of {recipe.model.max_length} tokens"
            yield CheckResult(about=f"{split} rows", found=f"{loaded}{longest}")
