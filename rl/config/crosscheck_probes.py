"""Checks of reward terms that have answers forced out of episodes: the protocol must allow it."""

from collections.abc import Iterator

from rl.config.base import ConfigIssue
from rl.config.recipe import Recipe
from rl.config.stages import EvalStage, RlStage
from rollout.protocols import PROTOCOLS, default_params


def probe_issues(recipe: Recipe) -> Iterator[ConfigIssue]:
    """A rule of rl.config.crosscheck."""
    for stage in recipe.stages:
        if isinstance(stage, RlStage | EvalStage):
            yield from _of_stage(recipe, stage)


def _of_stage(recipe: Recipe, stage: RlStage | EvalStage) -> Iterator[ConfigIssue]:
    asking = [term for term in recipe.rewards_of(stage) if term.probes is not None]
    key, protocol = f"{stage.name}.rewards" if stage.rewards else "rewards", recipe.protocol_of(stage)
    if len(asking) > 1:
        yield ConfigIssue(
            key=key,
            value=[term.name for term in asking],
            reason=f"in stage {stage.name!r} several terms have answers forced, each at places of its own",
            remedy="keep one of them",
        )
    tags = protocol.forks_at
    own = "give the stage rewards of its own"
    for term in asking:
        plan, reason = term.probes, ""
        if tags is None:
            reason = (
                f"in stage {stage.name!r} the root of {protocol.name} does not think in one text with tags "
                "of this project, out of which an answer could be forced"
            )
            remedy = f"use {', '.join(_able())}, with their tags (not dialect: apr), or {own}"
        elif plan is not None and plan.places == "joins" and not tags:
            reason = f"in stage {stage.name!r} {protocol.name} joins no threads, and only joins are credited"
            remedy = "set credit: trace or blocks, or use a protocol that forks"
        elif not protocol.answer.form.opens(protocol.answer):
            reason = f"an answer of kind: {protocol.answer.kind} has no beginning that could be forced"
            remedy = f"use another kind in protocol.answer, such as boxed, or {own}"
        if reason:
            yield ConfigIssue(key=key, value=term.name, reason=reason, remedy=remedy)


def _able() -> list[str]:
    """Names of the protocols out of whose root an answer can be forced, with their default keys."""
    return [name for name in PROTOCOLS if default_params(name).forks_at is not None]
