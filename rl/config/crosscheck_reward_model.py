"""Checks of reward model stages against the rest of the recipe."""

from collections.abc import Iterator

from data.steps.aggregates import AGGREGATES
from data.tasks.labelled import StepLabelledTask
from data.tasks.registry import TASKS, build_task
from rewards.terms.process import ProcessParams
from rl.config.base import ConfigIssue
from rl.config.crosscheck_labels import learned_label_issues
from rl.config.crosscheck_source import recorded_issues
from rl.config.explain import nearest
from rl.config.judges import JudgeSetting, scoring_judge, trained_judges
from rl.config.outcome_loss import BradleyTerryLoss
from rl.config.recipe import Recipe
from rl.config.scorer import ScorerConfig
from rl.config.stages import EvalStage, RewardModelStage, RlStage


def scorer_issues(recipe: Recipe) -> Iterator[ConfigIssue]:
    """A rule of rl.config.crosscheck: the scorer is there before the stages that ask it."""
    scorer = recipe.scorer
    judge = scoring_judge(recipe)
    models = [stage.name for stage in recipe.stages if isinstance(stage, RewardModelStage)]
    models += trained_judges(recipe)
    kinds = () if scorer is None else (scorer.stage, scorer.path, scorer.labels)
    if scorer is not None and sum(kind is not None for kind in kinds) != 1:
        reason = "takes either the name of a stage, a directory, or the task's labels"
        remedy = "give scorer.stage, scorer.path or scorer.labels, not both or all"
        yield ConfigIssue(key="scorer", value=None, reason=reason, remedy=remedy)
        return
    if scorer is not None and scorer.stage is not None and scorer.stage not in models:
        reason = "no stage of this name trains a reward model or a judge"
        remedy = nearest(scorer.stage, models) if models else "add a stage of kind: reward_model"
        yield ConfigIssue(key="scorer.stage", value=scorer.stage, reason=reason, remedy=remedy)
        return
    yield from _judge_issues(recipe, judge)
    for index, stage in enumerate(recipe.stages):
        if not isinstance(stage, RlStage | EvalStage):
            continue
        if recipe.is_scored(stage) and (scorer is None or scorer.labels is not None):
            reason = f"the rewards of stage {stage.name!r} take a scorer's opinion, and there is none"
            remedy = "name one, as in scorer: {stage: prm}, or set source: labels in the term"
            yield ConfigIssue(key="scorer", value=None, reason=reason, remedy=remedy)
            return
        if recipe.is_searched(stage):
            yield from _search_issues(recipe, stage)
        elif not recipe.is_scored(stage):
            continue
        if scorer is None:
            return
        if scorer.stage is not None and scorer.stage not in [s.name for s in recipe.stages[:index]]:
            users, own = ("rewards take its opinion", "rewards of its own")
            if not recipe.is_scored(stage):
                users, own = ("protocol asks it", "another protocol")
            reason = f"comes behind stage {stage.name!r}, whose {users}"
            remedy = f"move it in front of {stage.name}, or give {stage.name} {own}"
            yield ConfigIssue(key="scorer.stage", value=scorer.stage, reason=reason, remedy=remedy)
        yield from _outcome_issues(recipe, stage, scorer)


def _outcome_issues(
    recipe: Recipe, stage: RlStage | EvalStage, scorer: ScorerConfig
) -> Iterator[ConfigIssue]:
    """Whether the rewards ask a scorer of whole answers for more than one value."""
    trained = next((other for other in recipe.stages if other.name == scorer.stage), None)
    target = trained.target if isinstance(trained, RewardModelStage) else scorer.target
    owner = f"{stage.name}.rewards" if stage.rewards is not None else "rewards"
    for term in recipe.rewards_of(stage):
        if isinstance(term, ProcessParams) and term.takes_scorer and target == "outcome":
            if term.aggregate in AGGREGATES:
                continue
            reason = f"compares steps, and the scorer of stage {stage.name!r} says one thing of an answer"
            remedy = "set aggregate: last, or name a reward model with target: steps"
            key = f"{owner}.process.aggregate"
            yield ConfigIssue(key=key, value=term.aggregate, reason=reason, remedy=remedy)


def _judge_issues(recipe: Recipe, judge: JudgeSetting | None) -> Iterator[ConfigIssue]:
    """Whether a judge can score: without words, in one call, finished episodes."""
    if judge is None:
        return
    scorer = recipe.scorer
    assert scorer is not None
    key, value = (
        ("scorer.judge", "a judge") if judge.trained_by is None else ("scorer.stage", judge.trained_by)
    )
    if scorer.judge is not None and scorer.path is None:
        reason, remedy = "says what the model in scorer.path is, and there is none", "leave it out"
        yield ConfigIssue(key=key, value=value, reason=reason, remedy=remedy)
    if judge.format.words != "none":
        reason = "writes words before its verdicts, so that an engine would have to sample them"
        remedy = "train it with task.params.format: {words: none}, or label with it (by: {kind: judge})"
        yield ConfigIssue(key=key, value=value, reason=reason, remedy=remedy)
    if judge.protocol.name != "sequential":
        reason = f"was trained with the protocol {judge.protocol.name}"
        yield ConfigIssue(key=key, value=value, reason=reason, remedy="train it with sequential")
    if scorer.target != "steps":
        reason, remedy = "is none of a judge, which scores steps", "leave it out"
        yield ConfigIssue(key="scorer.target", value=scorer.target, reason=reason, remedy=remedy)
    for stage in recipe.stages:
        if recipe.is_searched(stage):
            reason = (
                f"is a judge, which scores finished episodes; the protocol of stage {stage.name!r} searches"
            )
            remedy = "name a reward model, or another protocol"
            yield ConfigIssue(key=key, value=value, reason=reason, remedy=remedy)


def _search_issues(recipe: Recipe, stage: RlStage | EvalStage) -> Iterator[ConfigIssue]:
    """Whether there is a scorer that the protocol of a stage can ask."""
    name, scorer = recipe.protocol_of(stage).name, recipe.scorer
    if scorer is None:
        reason = f"the protocol of stage {stage.name!r}, {name}, asks a scorer, and there is none"
        remedy = "name one, as in scorer: {stage: prm}, or scorer: {labels: both} on a task that labels steps"
        yield ConfigIssue(key="scorer", value=None, reason=reason, remedy=remedy)
    elif scorer.labels is not None:
        task = build_task(recipe.task_of(stage).params)
        if not isinstance(task, StepLabelledTask):
            reason = f"task {task.name} of stage {stage.name!r} does not label its steps"
            able = sorted(name for name, other in TASKS.items() if issubclass(other, StepLabelledTask))
            remedy = f"name a reward model, or use one of the tasks that do: {', '.join(able)}"
            yield ConfigIssue(key="scorer.labels", value=scorer.labels, reason=reason, remedy=remedy)


def reward_model_issues(recipe: Recipe) -> Iterator[ConfigIssue]:
    """A rule of rl.config.crosscheck."""
    for index, stage in enumerate(recipe.stages):
        if not isinstance(stage, RewardModelStage):
            continue
        before = recipe.stages[:index]
        yield from _loss_issues(stage)
        if stage.preferences:
            yield from _preference_issues(stage)
        elif stage.labels is not None:
            yield from learned_label_issues(stage, before)
        else:
            yield from recorded_issues(recipe, stage, stage.source, before)
        task = build_task(recipe.task_of(stage).params)
        labels_itself = stage.target == "steps" and stage.labels is None and not stage.preferences
        if labels_itself and not isinstance(task, StepLabelledTask):
            reason = f"task {task.name} does not label its steps"
            able = sorted(name for name, other in TASKS.items() if issubclass(other, StepLabelledTask))
            remedy = (
                "use target: outcome, labels: STAGE of a stage of kind: label_steps, or one of the tasks "
                f"that do: {', '.join(able)}"
            )
            yield ConfigIssue(key=f"{stage.name}.target", value=stage.target, reason=reason, remedy=remedy)


def _loss_issues(stage: RewardModelStage) -> Iterator[ConfigIssue]:
    if stage.target == "steps" and isinstance(stage.loss, BradleyTerryLoss):
        reason = "compares whole answers, and this stage learns steps"
        remedy = f"set {stage.name}.target: outcome, or leave loss out"
        yield ConfigIssue(key=f"{stage.name}.loss.kind", value=stage.loss.kind, reason=reason, remedy=remedy)


def _preference_issues(stage: RewardModelStage) -> Iterator[ConfigIssue]:
    """Issues unless files of better and worse answers are all that an outcome model learns from."""
    key = f"{stage.name}.preferences"
    if stage.target == "steps":
        reason = "say which whole answer is better, and this stage learns steps"
        yield ConfigIssue(key=key, value=None, reason=reason, remedy=f"set {stage.name}.target: outcome")
    others = [
        name
        for name, given in (
            ("source", stage.source.stages or stage.source.files),
            ("labels", stage.labels),
        )
        if given
    ]
    for name in others:
        reason = "is a second source of answers beside preferences"
        remedy = f"leave {name} out, or train two stages"
        yield ConfigIssue(key=f"{stage.name}.{name}", value=None, reason=reason, remedy=remedy)
