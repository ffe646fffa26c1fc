"""Checks across keys: whether the parts of a recipe fit together. Each rule gives its reason."""

from collections.abc import Callable, Iterator

from data.tasks.base import GeneratedTask
from data.tasks.registry import build_task
from rewards.schedule import factor
from rl.config.base import ConfigIssue
from rl.config.crosscheck_algorithm import algorithm_issues
from rl.config.crosscheck_export import name_issues
from rl.config.crosscheck_labels import judge_issues, label_issues
from rl.config.crosscheck_probes import probe_issues
from rl.config.crosscheck_reward_model import reward_model_issues, scorer_issues
from rl.config.crosscheck_source import node_issues, source_issues
from rl.config.crosscheck_verifier import verifier_issues
from rl.config.explain import nearest
from rl.config.lengths import needed_length
from rl.config.model import ScratchModel
from rl.config.recipe import Recipe
from rl.config.stages import (
    START,
    EvalStage,
    ExportStage,
    RlStage,
    SftStage,
    StageConfig,
    SupervisedStage,
    TrainingStage,
)
from rl.config.task import DatasetTask
from rollout.protocols import PROTOCOLS
from rollout.protocols.shared.params import UNBOUNDED, ForkingParams, ProtocolParams


def issues(recipe: Recipe) -> Iterator[ConfigIssue]:
    """All contradictions between parts of the recipe, in its order."""
    for rule in RULES:
        yield from rule(recipe)


def _names(recipe: Recipe) -> Iterator[ConfigIssue]:
    seen: set[str] = set()
    for index, stage in enumerate(recipe.stages):
        if stage.name in seen:
            reason = "an earlier stage has this name, so references to it would be ambiguous"
            yield ConfigIssue(
                key=f"stages.{index}.name", value=stage.name, reason=reason, remedy="rename one of them"
            )
        if stage.name in type(recipe).model_fields:
            reason = "is a top-level key, so --set would be ambiguous"
            yield ConfigIssue(
                key=f"stages.{index}.name", value=stage.name, reason=reason, remedy="rename the stage"
            )
        seen.add(stage.name)
    for owner, terms in [("", recipe.rewards), *((f"{s.name}.", s.rewards or ()) for s in recipe.stages)]:
        names = [term.name for term in terms]
        for name in dict.fromkeys(name for name in names if names.count(name) > 1):
            remedy = "keep one entry of each name; give it a weight instead"
            yield ConfigIssue(
                key=f"{owner}rewards", value=names, reason=f"{name!r} is there twice", remedy=remedy
            )


def _model(recipe: Recipe) -> Iterator[ConfigIssue]:
    model = recipe.model
    if not isinstance(model, ScratchModel):
        return
    if model.num_heads % model.num_kv_heads:
        reason = (
            f"does not divide num_heads = {model.num_heads}: each key-value head serves as many query heads"
        )
        yield ConfigIssue(
            key="model.num_kv_heads",
            value=model.num_kv_heads,
            reason=reason,
            remedy=f"use {model.num_heads} or a divisor",
        )
    if model.architecture == "llama" and model.num_heads * model.head_dim != model.hidden_size:
        reason = (
            f"llama needs num_heads * head_dim = hidden_size, but {model.num_heads} * {model.head_dim} is not"
        )
        remedy = "change one of the three, or use architecture qwen3"
        yield ConfigIssue(
            key="model.head_dim", value=model.head_dim, reason=f"{reason} {model.hidden_size}", remedy=remedy
        )
    for config in dict.fromkeys((recipe.task, *(recipe.task_of(stage) for stage in recipe.stages))):
        task = build_task(config.params)
        if not isinstance(task, GeneratedTask):
            reason = f"the words of task {config.name} are not known, so no tokenizer can be built for them"
            remedy = "use a pretrained model (kind: pretrained), which has a tokenizer"
            yield ConfigIssue(key="model.kind", value=model.kind, reason=reason, remedy=remedy)
            continue
        if not task.words_only:
            reason = (
                f"the text of task {config.name} is not single words, so no tokenizer can be built for it"
            )
            remedy = "use a pretrained model (kind: pretrained), or leave task.params.text out"
            yield ConfigIssue(key="model.kind", value=model.kind, reason=reason, remedy=remedy)
            continue
        largest = task.largest_number
        if not model.digits and model.numbers < largest:
            reason = f"the task writes numbers up to {largest}, which would have no token"
            remedy = f"set it to {largest}, or model.digits to true"
            yield ConfigIssue(key="model.numbers", value=model.numbers, reason=reason, remedy=remedy)


def _lengths(recipe: Recipe) -> Iterator[ConfigIssue]:
    words = isinstance(recipe.model, ScratchModel)  # a pretrained model's tokens: rl.preflight.prompts
    digits = isinstance(recipe.model, ScratchModel) and recipe.model.digits
    for stage in recipe.stages:
        if isinstance(stage, ExportStage):
            continue
        protocol, task = recipe.protocol_of(stage), build_task(recipe.task_of(stage).params)
        needed = 0
        if words and isinstance(task, GeneratedTask):
            needed = needed_length(task, protocol, digits=digits)
        at = f"for {protocol.name} in stage {stage.name!r} a prompt and its calls' token limits"
        if needed > recipe.model.max_length:
            reason = (
                f"{at} need {needed}, so the model's context would cut calls off before their token limits do"
            )
            remedy = f"raise it to {needed}, or lower the protocol's token limits"
            yield ConfigIssue(
                key="model.max_length", value=recipe.model.max_length, reason=reason, remedy=remedy
            )
        if protocol.budgets.total_tokens < protocol.budgets.critical_tokens < UNBOUNDED:
            reason = f"is more than total_tokens = {protocol.budgets.total_tokens}, of which it is a part"
            yield ConfigIssue(
                key=_owned(recipe, stage, "protocol.budgets.critical_tokens"),
                value=protocol.budgets.critical_tokens,
                reason=reason,
                remedy="lower it, or raise total_tokens",
            )


def _instructions(recipe: Recipe) -> Iterator[ConfigIssue]:
    """An instruction for a role that the protocol does not have would never be given to the model."""
    owners: list[tuple[str, ProtocolParams | None]] = [("", recipe.protocol)]
    owners += [(f"{stage.name}.", stage.protocol) for stage in recipe.stages]
    for owner, protocol in owners:
        framing = None if protocol is None else protocol.framing
        if protocol is None or framing is None or framing.kind == "tags":
            continue
        roles = PROTOCOLS[protocol.name].roles
        for role in framing.instructions:
            if role not in roles:
                yield ConfigIssue(
                    key=f"{owner}protocol.framing.instructions.{role}",
                    value=None,
                    reason=f"{protocol.name} has no role of this name, so nobody would be told this",
                    remedy=nearest(role, roles),
                )


def _batches(recipe: Recipe) -> Iterator[ConfigIssue]:
    for stage in recipe.stages:
        if isinstance(stage, TrainingStage) and stage.warmup_steps >= stage.steps:
            reason = f"the stage has {stage.steps} steps, so the learning rate would never reach its peak"
            yield ConfigIssue(
                key=f"{stage.name}.warmup_steps",
                value=stage.warmup_steps,
                reason=reason,
                remedy="lower it, or raise steps",
            )
        if isinstance(stage, SupervisedStage) and stage.tokens_per_step % (
            stage.forest_tokens * stage.num_ranks
        ):
            unit = stage.forest_tokens * stage.num_ranks
            reason = f"is not a multiple of forest_tokens * num_ranks = {unit}: ranks take whole forests"
            remedy = f"use {max(1, round(stage.tokens_per_step / unit)) * unit}"
            yield ConfigIssue(
                key=f"{stage.name}.tokens_per_step", value=stage.tokens_per_step, reason=reason, remedy=remedy
            )
        if isinstance(stage, RlStage) and stage.groups_per_step % stage.minibatches:
            reason = f"does not divide groups_per_step = {stage.groups_per_step}: updates are of equal size"
            divisors = [n for n in range(1, stage.groups_per_step + 1) if stage.groups_per_step % n == 0]
            close = sorted(divisors, key=lambda n: abs(n - stage.minibatches))[:8]
            remedy = f"use one of {', '.join(map(str, sorted(close)))}"
            yield ConfigIssue(
                key=f"{stage.name}.minibatches", value=stage.minibatches, reason=reason, remedy=remedy
            )


def _references(recipe: Recipe) -> Iterator[ConfigIssue]:
    trained = [START]
    for stage in recipe.stages:
        for key, names in _checkpoints(stage).items():
            for name in names:
                if name not in trained:
                    later = name in (other.name for other in recipe.policy_stages() if other != stage)
                    reason = "that stage comes later" if later else "no earlier sft or rl stage has this name"
                    remedy = "move this stage behind that one" if later else nearest(name, trained)
                    yield ConfigIssue(key=f"{stage.name}.{key}", value=name, reason=reason, remedy=remedy)
        if isinstance(stage, SftStage | RlStage):
            trained.append(stage.name)


def _checkpoints(stage: StageConfig) -> dict[str, tuple[str, ...]]:
    """Key -> the checkpoints that a stage names there."""
    if isinstance(stage, EvalStage):
        return {"checkpoints": stage.checkpoints}
    if isinstance(stage, ExportStage):
        return {"checkpoint": (stage.checkpoint,)}
    return {"start": (stage.start,)} if isinstance(stage, TrainingStage) and stage.start else {}


def _splits(recipe: Recipe) -> Iterator[ConfigIssue]:
    for stage in recipe.stages:
        task = recipe.task_of(stage)
        if isinstance(stage, EvalStage) and not task.has(stage.split):
            yield _empty(recipe, stage, stage.split, f"stage {stage.name!r} evaluates on it")
        if isinstance(stage, RlStage) and stage.validate_every and not task.has("validation"):
            yield _empty(
                recipe,
                stage,
                "validation",
                f"stage {stage.name!r} validates every {stage.validate_every} steps",
            )


def _empty(recipe: Recipe, stage: StageConfig, split: str, why: str) -> ConfigIssue:
    rows = isinstance(recipe.task_of(stage), DatasetTask)
    name = f"task.params.{split}_percent" if rows else f"task.{split}_problems"
    return ConfigIssue(
        key=_owned(recipe, stage, name),
        value=0,
        reason=f"the {split} split is empty, but {why}",
        remedy="give it some problems",
    )


def _engines(recipe: Recipe) -> Iterator[ConfigIssue]:
    for stage in recipe.stages:
        if (
            isinstance(stage, RlStage)
            and stage.groups_per_step < recipe.engine.num_engines
            and not stage.staleness
        ):
            reason = (
                f"stage {stage.name!r} has {stage.groups_per_step} groups a step, so some engines would idle"
            )
            remedy = "use fewer engines, more groups_per_step, or a staleness above 0"
            yield ConfigIssue(
                key="engine.num_engines", value=recipe.engine.num_engines, reason=reason, remedy=remedy
            )
    live, episodes = (
        recipe.engine.max_live_calls,
        {stage.name: _width(recipe, stage) for stage in recipe.stages},
    )
    for name, width in episodes.items():
        if width > live:
            reason = f"one fork of stage {name!r} opens up to {width} threads, which should decode together"
            remedy = f"raise it to {width}, or lower protocol.budgets.width"
            yield ConfigIssue(key="engine.max_live_calls", value=live, reason=reason, remedy=remedy)
            return


def _width(recipe: Recipe, stage: StageConfig) -> int:
    protocol = recipe.protocol_of(stage)
    return protocol.budgets.width if isinstance(protocol, ForkingParams) else 1


def _schedules(recipe: Recipe) -> Iterator[ConfigIssue]:
    for stage in recipe.stages:
        owner = f"{stage.name}.rewards" if stage.rewards is not None else "rewards"
        scheduled = [term for term in recipe.rewards_of(stage) if term.schedule.kind != "constant"]
        if not isinstance(stage, RlStage):
            for term in scheduled if stage.rewards is not None else ():
                reason = f"stage {stage.name!r} has no training steps of its own, so the full weight counts"
                yield ConfigIssue(
                    key=f"{owner}.{term.name}.schedule.kind",
                    value=term.schedule.kind,
                    reason=reason,
                    remedy="remove the schedule there",
                )
            continue
        for term in scheduled:
            if not any(factor(term.schedule, step) for step in range(stage.steps)):
                reason = f"stage {stage.name!r} has {stage.steps} steps, so the term would never count"
                yield ConfigIssue(
                    key=f"{owner}.{term.name}.schedule",
                    value=None,
                    reason=reason,
                    remedy="lower start, raise the stage's steps, or leave the term out",
                )
        if len(scheduled) == len(recipe.rewards_of(stage)):
            for step in range(stage.steps):
                if not any(factor(term.schedule, step) for term in scheduled):
                    reason = f"at step {step} of stage {stage.name!r} no term counts, so all rewards are 0"
                    remedy = "keep one term constant, or give an annealed one a floor"
                    yield ConfigIssue(key=owner, value=None, reason=reason, remedy=remedy)
                    break


def _owned(recipe: Recipe, stage: StageConfig, key: str) -> str:
    """Key that sets a stage's task or protocol: the stage's own key, or the recipe's."""
    return f"{stage.name}.{key}" if getattr(stage, key.split(".")[0]) is not None else key


RULES: tuple[Callable[[Recipe], Iterator[ConfigIssue]], ...] = (
    _names, _instructions, _model, _lengths, _batches, _references, _splits, _engines, _schedules,
    name_issues, source_issues, label_issues, judge_issues, reward_model_issues, scorer_issues, node_issues,
    algorithm_issues, verifier_issues, probe_issues,
)  # fmt: skip
