"""The protocols there are: one file each, one line here."""

from typing import Annotated, get_args

from pydantic import Field, TypeAdapter

from data.errors import ConfigError
from rollout.protocols.async_fork import AsyncFork, AsyncForkParams
from rollout.protocols.base import Encoder, ProtocolParams, ThinkingProtocol
from rollout.protocols.best_of_n import BestOfN, BestOfNParams
from rollout.protocols.first_finish import FirstFinish, FirstFinishParams
from rollout.protocols.forking_tokens import ForkingTokens, ForkingTokensParams
from rollout.protocols.outline_guided import OutlineGuided, OutlineGuidedParams
from rollout.protocols.outlined_threads import OutlinedThreads, OutlinedThreadsParams
from rollout.protocols.parallel_paths import ParallelPaths, ParallelPathsParams
from rollout.protocols.plan_graph import PlanGraph, PlanGraphParams
from rollout.protocols.rounds import Rounds, RoundsParams
from rollout.protocols.self_consistency import SelfConsistency, SelfConsistencyParams
from rollout.protocols.sequential import Sequential, SequentialParams
from rollout.protocols.spawn_join import SpawnJoin, SpawnJoinParams
from rollout.protocols.subtask_tree import SubtaskTree, SubtaskTreeParams

__all__ = ["PROTOCOLS", "AnyParams", "ThinkingProtocol", "build_protocol", "default_params", "vocabulary"]

AnyParams = Annotated[
    SequentialParams
    | SpawnJoinParams
    | AsyncForkParams
    | OutlinedThreadsParams
    | ParallelPathsParams
    | SelfConsistencyParams
    | BestOfNParams
    | FirstFinishParams
    | RoundsParams
    | OutlineGuidedParams
    | ForkingTokensParams
    | PlanGraphParams
    | SubtaskTreeParams,
    Field(discriminator="name"),
]
"""Recipe section `protocol`."""

PROTOCOLS: dict[str, type[ThinkingProtocol]] = {
    protocol.name: protocol
    for protocol in (
        Sequential,
        SpawnJoin,
        AsyncFork,
        OutlinedThreads,
        ParallelPaths,
        SelfConsistency,
        BestOfN,
        FirstFinish,
        Rounds,
        OutlineGuided,
        ForkingTokens,
        PlanGraph,
        SubtaskTree,
    )
}
assert {protocol.params_class for protocol in PROTOCOLS.values()} == set(get_args(get_args(AnyParams)[0])), (
    "every protocol is in AnyParams and in PROTOCOLS"
)


def default_params(name: str) -> AnyParams:
    """A protocol's default parameters. Raises ConfigError for an unknown name."""
    if name not in PROTOCOLS:
        raise ConfigError(
            f"protocol {name!r}: there is none of that name; choose from {', '.join(sorted(PROTOCOLS))}"
        )
    return TypeAdapter[AnyParams](AnyParams).validate_python({"name": name})


def build_protocol(params: AnyParams, encoder: Encoder) -> ThinkingProtocol:
    """The protocol of a recipe's section, for one tokenizer."""
    return PROTOCOLS[params.name](params, encoder)


def vocabulary(params: ProtocolParams) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(structural tags, further words) of the protocol that these parameters describe."""
    protocol = next(protocol for protocol in PROTOCOLS.values() if protocol.params_class is type(params))
    return protocol.tags_of(params), protocol.words_of(params)
