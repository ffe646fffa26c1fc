"""Checks of reward model stages against the rest of the recipe."""

from collections.abc import Iterator

from data.tasks.labelled import StepLabelledTask
from data.tasks.registry import TASKS, build_task
from rl.config.base import ConfigIssue
from rl.config.crosscheck_source import recorded_issues
from rl.config.explain import nearest
from rl.config.recipe import Recipe
from rl.config.stages import START, RewardModelStage, RlStage, SftStage


def reward_model_issues(recipe: Recipe) -> Iterator[ConfigIssue]:
    """A rule of rl.config.crosscheck."""
    for index, stage in enumerate(recipe.stages):
        if not isinstance(stage, RewardModelStage):
            continue
        before = recipe.stages[:index]
        yield from recorded_issues(recipe, stage, stage.source, before)
        task = build_task(recipe.task_of(stage).params)
        if stage.target == "steps" and not isinstance(task, StepLabelledTask):
            reason = f"task {task.name} does not label its steps"
            able = sorted(name for name, other in TASKS.items() if issubclass(other, StepLabelledTask))
            remedy = f"use target: outcome, or one of the tasks that do: {', '.join(able)}"
            yield ConfigIssue(key=f"{stage.name}.target", value=stage.target, reason=reason, remedy=remedy)
        trained = [START, *(other.name for other in before if isinstance(other, SftStage | RlStage))]
        if stage.start is not None and stage.start not in trained:
            reason = "no earlier sft or rl stage has this name"
            remedy = nearest(stage.start, trained)
            yield ConfigIssue(key=f"{stage.name}.start", value=stage.start, reason=reason, remedy=remedy)
