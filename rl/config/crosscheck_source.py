"""Checks of a supervised stage's source of demonstrations against the rest of the recipe."""

from collections.abc import Iterator

from data.tasks.base import GeneratedTask, SolvedTask, Task
from data.tasks.registry import TASKS, build_task
from rl.config.base import ConfigIssue
from rl.config.explain import nearest
from rl.config.recipe import Recipe
from rl.config.stages import (
    EpisodesSource,
    EvalStage,
    ExportStage,
    GoldSource,
    RecordedSource,
    RlStage,
    SftStage,
    StageConfig,
)
from rollout.protocols import PROTOCOLS, passing_results_on, with_forking_tags
from rollout.protocols.spawn_join import SpawnJoinParams


def source_issues(recipe: Recipe) -> Iterator[ConfigIssue]:
    """A rule of rl.config.crosscheck."""
    for index, stage in enumerate(recipe.stages):
        if not isinstance(stage, SftStage):
            continue
        yield from _tags(recipe, stage)
        if isinstance(stage.source, GoldSource):
            yield from _gold(recipe, stage)
            continue
        if not isinstance(stage.source, RecordedSource):
            yield from _solver(recipe, stage)
            continue
        yield from recorded_issues(recipe, stage, stage.source, recipe.stages[:index])


def node_issues(recipe: Recipe) -> Iterator[ConfigIssue]:
    """A rule of rl.config.crosscheck: the published text of APR needs searches that name their nodes."""
    for stage in recipe.stages:
        protocol, task = recipe.protocol_of(stage), build_task(recipe.task_of(stage).params)
        if isinstance(stage, ExportStage) or not isinstance(protocol, SpawnJoinParams):
            continue
        named = not isinstance(task, GeneratedTask) or (isinstance(task, SolvedTask) and task.names_nodes)
        if protocol.dialect == "apr" and not named:
            reason = f"task {task.name} of stage {stage.name!r} does not name the nodes of its searches"
            remedy = "use task countdown with params {text: apr}, or leave the dialect out"
            key = "protocol.dialect" if stage.protocol is None else f"{stage.name}.protocol.dialect"
            yield ConfigIssue(key=key, value="apr", reason=reason, remedy=remedy)
            return


def _tags(recipe: Recipe, stage: SftStage) -> Iterator[ConfigIssue]:
    protocol = recipe.protocol_of(stage)
    if stage.match_tags and not protocol.forces_forking_tags:
        reason = f"stage {stage.name!r} trains {protocol.name}, which forces no tag on a trace"
        able = " or ".join(with_forking_tags())
        remedy = f"leave it out, or use the protocol {able} with forced tags"
        yield ConfigIssue(key=f"{stage.name}.match_tags", value=True, reason=reason, remedy=remedy)


def _gold(recipe: Recipe, stage: SftStage) -> Iterator[ConfigIssue]:
    config, protocol = recipe.task_of(stage), recipe.protocol_of(stage).name
    key = f"{stage.name}.source.kind"
    if TASKS[config.name].gold is Task.gold:
        reason, remedy = f"task {config.name} has no gold answers", "give recorded episodes, or a solver's"
        yield ConfigIssue(key=key, value="gold", reason=reason, remedy=remedy)
    if protocol != "sequential":
        reason = f"is an answer without a thought, which {protocol} has no place for"
        remedy = f"give {stage.name} the protocol sequential"
        yield ConfigIssue(key=key, value="gold", reason=reason, remedy=remedy)


def _solver(recipe: Recipe, stage: SftStage) -> Iterator[ConfigIssue]:
    if stage.demonstrations is None:
        reason = "is missing: the solver can make any number of demonstrations"
        remedy = "give a number; training cycles over them"
        yield ConfigIssue(key=f"{stage.name}.demonstrations", value=None, reason=reason, remedy=remedy)
    protocol, task = recipe.protocol_of(stage), build_task(recipe.task_of(stage).params)
    if not isinstance(task, SolvedTask):
        reason = f"task {task.name} has no solver that could demonstrate"
        remedy = "give recorded episodes (source: {kind: recorded, ...}), or begin with an rl stage"
        yield ConfigIssue(key=f"{stage.name}.source.kind", value="solver", reason=reason, remedy=remedy)
        return
    if task.has_needs and not PROTOCOLS[protocol.name].handles_needs:
        reason = f"cannot demonstrate the task of stage {stage.name!r}: parts need each other's results"
        remedy = f"set {task.without_needs}, or use {' or '.join(passing_results_on())}"
        yield ConfigIssue(key="protocol.name", value=protocol.name, reason=reason, remedy=remedy)


def recorded_issues(
    recipe: Recipe, stage: StageConfig, source: EpisodesSource, before: tuple[StageConfig, ...]
) -> Iterator[ConfigIssue]:
    """Issues unless the source names episodes, of earlier stages that record training problems with this
    protocol, or of files.
    """
    if not source.stages and not source.files:
        reason = "names no episodes"
        remedy = f"give {stage.name}.source.stages (earlier stages) or {stage.name}.source.files"
        yield ConfigIssue(key=f"{stage.name}.source", value=None, reason=reason, remedy=remedy)
    for name in source.stages:
        yield from _recorded(recipe, stage, before, name)


def _recorded(
    recipe: Recipe, stage: StageConfig, before: tuple[StageConfig, ...], name: str
) -> Iterator[ConfigIssue]:
    """Issues unless `name` is an earlier stage that records training problems with this protocol."""
    key = f"{stage.name}.source.stages"
    source = next((other for other in before if other.name == name), None)
    able = [other.name for other in before if _records(other)]
    if source is None:
        later = any(other.name == name for other in recipe.stages)
        reason = "that stage comes later" if later else "no earlier stage has this name"
        remedy = "move this stage behind that one" if later or not able else nearest(name, able)
        yield ConfigIssue(key=key, value=name, reason=reason, remedy=remedy)
        return
    if not _records(source):
        reason = f"an {source.kind} stage records no episodes"
        remedy = "name an rl stage, or an eval stage with split: train"
        if isinstance(source, EvalStage):
            reason = f"its episodes are for {source.split} problems, which must stay held out"
            remedy = f"set {name}.split: train, or name an rl stage"
        yield ConfigIssue(key=key, value=name, reason=reason, remedy=remedy)
        return
    for what, theirs, ours in (
        ("protocol", recipe.protocol_of(source).name, recipe.protocol_of(stage).name),
        ("task", recipe.task_of(source).name, recipe.task_of(stage).name),
    ):
        if theirs != ours:
            reason = f"it has {what} {theirs}, this stage has {ours}"
            remedy = f"give both the same {what}"
            yield ConfigIssue(key=key, value=name, reason=reason, remedy=remedy)


def _records(stage: StageConfig) -> bool:
    return isinstance(stage, RlStage) or (isinstance(stage, EvalStage) and stage.split == "train")
