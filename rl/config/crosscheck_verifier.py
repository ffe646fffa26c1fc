"""Cross-checks of `task.verifier`: the task has what it needs, and the time limits fit into each other."""

from collections.abc import Iterator

from data.tasks.base import Task
from data.tasks.labelled import StepLabelledTask
from data.tasks.registry import TASKS
from rewards.verifiers.registry import VERIFIERS
from rl.config.base import ConfigIssue
from rl.config.recipe import Recipe
from rl.config.stages import EvalStage, RlStage
from rl.config.task import DatasetTask

NEED_NO_GOLD = ("python", "code", "ifeval")
"""Verifiers that may work without a gold answer."""


def verifier_issues(recipe: Recipe) -> Iterator[ConfigIssue]:
    """A verifier that is missing, without gold answers, or slower than a reward may be."""
    for owner, config in [("", recipe.task), *((f"{s.name}.", s.task) for s in recipe.stages if s.task)]:
        verifier = config.verifier
        if isinstance(config, DatasetTask) and verifier is None:
            reason = "is missing: rows of your own do not say how an answer is compared with the gold answer"
            remedy = f"name one of {', '.join(sorted(VERIFIERS))}"
            yield ConfigIssue(key=f"{owner}task.verifier", value=None, reason=reason, remedy=remedy)
        has_gold = TASKS[config.name].gold is not Task.gold
        if verifier is not None and not has_gold and verifier.name not in NEED_NO_GOLD:
            reason = f"task {config.name!r} has no gold answers to compare with; it checks answers itself"
            remedy = "leave the verifier out, or take a task with gold answers"
            yield ConfigIssue(
                key=f"{owner}task.verifier.name", value=verifier.name, reason=reason, remedy=remedy
            )
    for stage in recipe.stages:
        if isinstance(stage, RlStage | EvalStage):
            yield from _labelled(recipe, stage)
    for stage in recipe.stages:
        verifier = recipe.task_of(stage).verifier
        if verifier is None or not isinstance(stage, RlStage | EvalStage):
            continue
        if recipe.reward_seconds_of(stage) <= verifier.seconds:
            reason = f"must be more than task.verifier.seconds ({verifier.seconds:g}), which it contains"
            yield ConfigIssue(
                key=f"{stage.name}.reward_seconds",
                value=stage.reward_seconds,
                reason=reason,
                remedy="leave it out, raise it, or lower task.verifier.seconds",
            )


def _labelled(recipe: Recipe, stage: RlStage | EvalStage) -> Iterator[ConfigIssue]:
    """A term that rewards steps, for a task that does not label them."""
    task = TASKS[recipe.task_of(stage).name]
    for term in recipe.rewards_of(stage):
        if term.takes_step_labels and not issubclass(task, StepLabelledTask):
            able = sorted(name for name, other in TASKS.items() if issubclass(other, StepLabelledTask))
            yield ConfigIssue(
                key=f"{stage.name}.rewards" if stage.rewards else "rewards",
                value=term.name,
                reason=f"task {task.name!r} of stage {stage.name!r} does not label its steps",
                remedy=f"leave {term.name} out, or take one of {', '.join(able)}",
            )
