"""Checks of a stage's algorithm: its parts must fit together and fit the protocol."""

from collections.abc import Iterator

from rl.config.algorithm import REWARD_SCALE, TRAIN_FORKING_TAGS, MaskCorrection, OffPolicyMaskCorrection
from rl.config.base import ConfigIssue
from rl.config.recipe import Recipe
from rl.config.stages import RlStage
from rollout.protocols import PROTOCOLS, with_forking_tags


def algorithm_issues(recipe: Recipe) -> Iterator[ConfigIssue]:
    """A rule of rl.config.crosscheck."""
    for trained in recipe.policy_stages():
        if trained.weights == "bfloat16" and trained.precision != "bfloat16":
            yield ConfigIssue(
                key=f"{trained.name}.weights",
                value=trained.weights,
                reason="are read by passes in bfloat16 only",
                remedy=f"set {trained.name}.precision: bfloat16, or leave weights out",
            )
    for stage in recipe.stages:
        if isinstance(stage, RlStage):
            yield from _corrections(stage)
            yield from _implicit(stage)
            yield from _critic(stage)
            yield from _call_critic(recipe, stage)
            yield from _sharding(stage)
            protocol = recipe.protocol_of(stage).name
            yield from _roles(stage, protocol)
            if stage.algorithm.name in TRAIN_FORKING_TAGS and protocol not in with_forking_tags():
                yield ConfigIssue(
                    key=f"{stage.name}.algorithm.name",
                    value=stage.algorithm.name,
                    reason=f"trains the forking tag alone, which {protocol} does not have",
                    remedy=f"set protocol.name: {' or '.join(with_forking_tags())}, or use grpo",
                )


def _roles(stage: RlStage, protocol: str) -> Iterator[ConfigIssue]:
    known = PROTOCOLS[protocol].roles
    for role in stage.algorithm.roles or ():
        if role not in known:
            yield ConfigIssue(
                key=f"{stage.name}.algorithm.roles",
                value=role,
                reason=f"{protocol} has no calls of this role: they are {', '.join(known)}",
                remedy="name some of those, or leave roles out to train all",
            )


def _corrections(stage: RlStage) -> Iterator[ConfigIssue]:
    algorithm = stage.algorithm
    for index, correction in enumerate(algorithm.corrections):
        key = f"{stage.name}.algorithm.corrections.{index}"
        if algorithm.proximal == "behaviour" and not isinstance(correction, OffPolicyMaskCorrection):
            yield ConfigIssue(
                key=f"{key}.name",
                value=correction.name,
                reason="corrects the ratio proximal / behaviour, which is 1 with proximal: behaviour",
                remedy=f"set {stage.name}.algorithm.proximal: recomputed (or interpolated)",
            )
        if isinstance(correction, MaskCorrection) and correction.lower >= correction.upper:
            yield ConfigIssue(
                key=f"{key}.lower",
                value=correction.lower,
                reason=f"is not below upper = {correction.upper}: nothing would be kept",
                remedy="lower it, or raise upper",
            )


def _critic(stage: RlStage) -> Iterator[ConfigIssue]:
    algorithm = stage.algorithm
    if algorithm.critic is None:
        return
    if algorithm.credit != "broadcast":
        yield ConfigIssue(
            key=f"{stage.name}.algorithm.credit",
            value=algorithm.credit,
            reason="assigns advantages computed within a group, and a critic computes none",
            remedy="leave it out, or leave the critic out",
        )
    if stage.drop_zero_variance:
        yield ConfigIssue(
            key=f"{stage.name}.drop_zero_variance",
            value=True,
            reason="drops groups whose rewards are all equal, but a critic learns from those too",
            remedy="set it to false",
        )


def _call_critic(recipe: Recipe, stage: RlStage) -> Iterator[ConfigIssue]:
    """A critic that speaks once a call, and rewards with places inside calls."""
    critic = stage.algorithm.critic
    if critic is None or critic.level == "token":
        return
    for term in recipe.rewards_of(stage):
        if term.rewards_steps:
            yield ConfigIssue(
                key=f"{stage.name}.algorithm.critic.level",
                value=critic.level,
                reason=f"credits calls as a whole, and {term.name} rewards steps inside them",
                remedy=f"use level: token, or give {term.name} one value for each call or episode",
            )


def _implicit(stage: RlStage) -> Iterator[ConfigIssue]:
    """An implicit reward model compares episodes of a group, in units of the reward."""
    algorithm, key = stage.algorithm, f"{stage.name}.algorithm"
    if algorithm.implicit is None:
        return
    if algorithm.critic is not None:
        yield ConfigIssue(
            key=f"{key}.implicit",
            value=None,
            reason="gives each token a return against its group, and a critic computes advantages of its own",
            remedy="leave implicit or critic out",
        )
    elif algorithm.advantage not in REWARD_SCALE:
        yield ConfigIssue(
            key=f"{key}.advantage",
            value=algorithm.advantage,
            reason="divides rewards by their standard deviation or compares them across problems, which the "
            "returns of an implicit reward model, added to them, are not",
            remedy=f"use {' or '.join(REWARD_SCALE)}, or leave implicit out",
        )
    if algorithm.name in TRAIN_FORKING_TAGS:
        yield ConfigIssue(
            key=f"{key}.implicit",
            value=None,
            reason=f"learns outcomes from all tokens, and {algorithm.name} trains the forking tag alone",
            remedy="leave it out, or use another algorithm",
        )


def _sharding(stage: RlStage) -> Iterator[ConfigIssue]:
    if stage.sharding == "none":
        return
    key = f"{stage.name}.sharding"
    if stage.optimizer == "muon":
        reason = "shards matrices over ranks, but Muon needs whole matrices"
        remedy = f"set {stage.name}.optimizer: adamw"
        yield ConfigIssue(key=key, value=stage.sharding, reason=reason, remedy=remedy)
    if stage.lora is not None:
        reason = "does not work with lora: adapters are small and are merged whole"
        yield ConfigIssue(key=key, value=stage.sharding, reason=reason, remedy="leave one of them out")
