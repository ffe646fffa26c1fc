"""Checks of stages that label steps, and of those that learn from their labels."""

from collections.abc import Iterator, Sequence

from data.tasks.labelled import StepLabelledTask
from data.tasks.registry import build_task
from rl.config.base import ConfigIssue
from rl.config.crosscheck_source import recorded_issues
from rl.config.explain import nearest
from rl.config.judges import judge_setting
from rl.config.labels import SAMPLED, ConsensusLabels, JudgeLabels, MonteCarloLabels
from rl.config.model import ScratchModel
from rl.config.recipe import Recipe
from rl.config.stages import START, LabelStage, RewardModelStage, RlStage, SftStage, StageConfig
from rl.config.task import JudgeTask, TaskConfig


def label_issues(recipe: Recipe) -> Iterator[ConfigIssue]:
    """A rule of rl.config.crosscheck."""
    for index, stage in enumerate(recipe.stages):
        if not isinstance(stage, LabelStage):
            continue
        before = recipe.stages[:index]
        if isinstance(stage.by, ConsensusLabels):
            yield from _consensus(stage, stage.by, before)
            continue
        yield from recorded_issues(recipe, stage, stage.source, before)
        task = build_task(recipe.task_of(stage).params)
        if stage.step == "line" and not isinstance(task, StepLabelledTask):
            reason = f"task {task.name} does not say what a line of a search is"
            remedy = "cut episodes into paragraph, call or thread"
            yield ConfigIssue(key=f"{stage.name}.step", value=stage.step, reason=reason, remedy=remedy)
        if isinstance(stage.by, JudgeLabels) and isinstance(recipe.model, ScratchModel):
            reason = "a model from random weights has no words for a verdict"
            remedy = "use a pretrained model, or by: {kind: monte_carlo}"
            yield ConfigIssue(key=f"{stage.name}.by.kind", value="judge", reason=reason, remedy=remedy)
        if isinstance(stage.by, SAMPLED):
            yield from _completing(stage, stage.by, before)
        if isinstance(stage.by, JudgeLabels):
            yield from _judging(recipe, stage, stage.by)


def judge_issues(recipe: Recipe) -> Iterator[ConfigIssue]:
    """A rule of rl.config.crosscheck: what is judged has been labelled before."""
    places: list[tuple[str, TaskConfig, Sequence[StageConfig]]] = [("", recipe.task, ())]
    places += [
        (f"{stage.name}.", stage.task, recipe.stages[:index])
        for index, stage in enumerate(recipe.stages)
        if stage.task is not None
    ]
    for owner, config, before in places:
        if not isinstance(config, JudgeTask):
            continue
        params, key = config.params, f"{owner}task.params.stage"
        if (params.stage is None) == (params.file is None) and config.files is None:
            reason = "takes either the labels of a stage or a file of them"
            remedy = "give task.params.stage or task.params.file"
            yield ConfigIssue(key=f"{owner}task.params", value=None, reason=reason, remedy=remedy)
            continue
        able = [other.name for other in before if isinstance(other, LabelStage)]
        if params.stage is not None and params.stage not in able:
            reason = "no earlier stage of kind: label_steps has this name"
            remedy = nearest(params.stage, able) if able else "add one in front of this stage, or give a file"
            yield ConfigIssue(key=key, value=params.stage, reason=reason, remedy=remedy)


def _judging(recipe: Recipe, stage: LabelStage, by: JudgeLabels) -> Iterator[ConfigIssue]:
    """Issues where a judge's weights are given twice, or its format though its training has set it."""
    if by.path is not None and by.checkpoint is not None:
        reason, remedy = "are two places for the weights of one judge", "give one of them"
        yield ConfigIssue(key=f"{stage.name}.by.path", value=str(by.path), reason=reason, remedy=remedy)
        return
    yield from _meta(recipe, stage, by)
    trained = judge_setting(recipe, stage, by).trained_by
    for name in ("format", "max_tokens") if trained is not None else ():
        if (value := getattr(by, name)) is not None:
            reason = f"stage {trained} has trained the judge, which is asked as it was trained"
            key = f"{stage.name}.by.{name}"
            shown = value if isinstance(value, int) else value.model_dump()
            yield ConfigIssue(key=key, value=shown, reason=reason, remedy="leave it out")


def learned_label_issues(stage: RewardModelStage, before: Sequence[StageConfig]) -> Iterator[ConfigIssue]:
    """Issues unless a reward model's `labels` are those of an earlier stage, of the steps it is asked for."""
    able = {other.name: other for other in before if isinstance(other, LabelStage)}
    labels = able.get(stage.labels or "")
    key = f"{stage.name}.labels"
    if labels is None:
        remedy = nearest(str(stage.labels), able) if able else "add one in front of this stage"
        reason = "no earlier stage of kind: label_steps has this name"
        yield ConfigIssue(key=key, value=stage.labels, reason=reason, remedy=remedy)
        return
    if stage.target != "steps":
        reason = "are of steps, and this stage learns outcomes"
        yield ConfigIssue(key=key, value=stage.labels, reason=reason, remedy="set target: steps")
    if stage.source.stages or stage.source.files:
        reason = f"has no use: the episodes are those that {labels.name} labelled"
        yield ConfigIssue(
            key=f"{stage.name}.source", value=None, reason=reason, remedy="leave it out, or leave labels out"
        )
    if stage.step != labels.step:
        reason = f"{labels.name} labels steps of the kind {labels.step}"
        remedy = f"set {stage.name}.step: {labels.step}"
        yield ConfigIssue(key=f"{stage.name}.step", value=stage.step, reason=reason, remedy=remedy)


def _meta(recipe: Recipe, stage: LabelStage, by: JudgeLabels) -> Iterator[ConfigIssue]:
    """Issues unless what chooses judgements was trained on them, and leaves some out."""
    key = f"{stage.name}.by.meta"
    if by.meta is None:
        if by.keep is not None:
            reason, remedy = "needs a model that says which judgements are good", f"give {key}"
            yield ConfigIssue(key=f"{stage.name}.by.keep", value=by.keep, reason=reason, remedy=remedy)
        return
    before = recipe.stages[: recipe.stages.index(stage)]
    able = {
        other.name
        for other in before
        if isinstance(other, RewardModelStage)
        and other.target == "outcome"
        and isinstance(recipe.task_of(other), JudgeTask)
    }
    if by.meta not in able:
        reason = "no earlier reward_model stage of this name learned outcomes on task judge"
        remedy = nearest(by.meta, sorted(able)) if able else "add one (kind: reward_model, target: outcome)"
        yield ConfigIssue(key=key, value=by.meta, reason=reason, remedy=remedy)
    if (by.keep or 1) >= by.completions:
        reason = f"leaves none of {by.completions} judgements out"
        yield ConfigIssue(
            key=f"{stage.name}.by.completions", value=by.completions, reason=reason, remedy="raise it"
        )


def _completing(
    stage: LabelStage, by: MonteCarloLabels | JudgeLabels, before: Sequence[StageConfig]
) -> Iterator[ConfigIssue]:
    trained = [START, *(other.name for other in before if isinstance(other, SftStage | RlStage))]
    if by.checkpoint is not None and by.checkpoint not in trained:
        reason = "no earlier sft or rl stage has this name"
        remedy = nearest(by.checkpoint, trained)
        key = f"{stage.name}.by.checkpoint"
        yield ConfigIssue(key=key, value=by.checkpoint, reason=reason, remedy=remedy)


def _consensus(
    stage: LabelStage, by: ConsensusLabels, before: Sequence[StageConfig]
) -> Iterator[ConfigIssue]:
    able = {other.name: other for other in before if isinstance(other, LabelStage)}
    key = f"{stage.name}.by.stages"
    for name in by.stages:
        if name not in able:
            remedy = nearest(name, able) if able else "add stages of kind: label_steps in front of this one"
            reason = "no earlier stage of kind: label_steps has this name"
            yield ConfigIssue(key=key, value=name, reason=reason, remedy=remedy)
        elif able[name].step != stage.step:
            reason = f"{name} labels steps of the kind {able[name].step}"
            remedy = f"set {stage.name}.step: {able[name].step}"
            yield ConfigIssue(key=f"{stage.name}.step", value=stage.step, reason=reason, remedy=remedy)
    if len(set(by.stages)) < len(by.stages):
        remedy = "name different stages"
        yield ConfigIssue(key=key, value=list(by.stages), reason="names a stage twice", remedy=remedy)
    if stage.source.stages or stage.source.files or stage.episodes is not None:
        reason = "has no use: the steps are those of the stages that by.stages names"
        name = "episodes" if stage.episodes is not None else "source"
        yield ConfigIssue(key=f"{stage.name}.{name}", value=None, reason=reason, remedy="leave it out")
