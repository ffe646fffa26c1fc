"""Checks of a user's own rows: layout, answers, duplicates, overlap of splits, lengths in real tokens."""

from collections.abc import Iterator

from data.tasks.registry import build_task
from rl.config.recipe import Recipe
from rl.config.task import DatasetTask
from rl.preflight.check_result import CheckResult
from rl.preflight.prompts import first_prompt
from rl.problems import Datasets
from rollout.protocols import build_protocol


def check_datasets(recipe: Recipe, datasets: Datasets | None = None) -> Iterator[CheckResult]:
    """Every row of every data set becomes a problem that fits the model, or is left out by stated policy.

    `datasets`: those that another check has read.

    Raises ConfigError naming file and row.
    """
    datasets = datasets or Datasets(recipe)
    configs = dict.fromkeys((recipe.task, *(recipe.task_of(stage) for stage in recipe.stages)))
    for config in configs:
        if not isinstance(config, DatasetTask):
            continue
        splits, codec = datasets.splits(config), datasets.codec
        for split, loaded in splits.items():
            longest = f"; longest prompt with its calls {loaded.longest} of {recipe.model.max_length} tokens"
            yield CheckResult(about=f"{split} rows", found=f"{loaded}{longest}")
        stage = next((stage for stage in recipe.stages if recipe.task_of(stage) == config), None)
        first = next((part.problems[0].problem for part in splits.values() if part.problems), None)
        if first is not None and stage is not None:
            protocol = build_protocol(recipe.protocol_of(stage), codec)
            yield from first_prompt(recipe, protocol, build_task(config.params), first, codec)
