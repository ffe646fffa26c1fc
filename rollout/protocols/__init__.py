"""The protocols there are: one file each, one line here."""

from typing import Annotated

from pydantic import Field

from rollout.protocols.base import Encoder, ThinkingProtocol
from rollout.protocols.sequential import Sequential, SequentialParams
from rollout.protocols.spawn_join import SpawnJoin, SpawnJoinParams

__all__ = [
    "PROTOCOLS",
    "AnyParams",
    "Sequential",
    "SequentialParams",
    "SpawnJoin",
    "SpawnJoinParams",
    "ThinkingProtocol",
    "build_protocol",
]

AnyParams = Annotated[SequentialParams | SpawnJoinParams, Field(discriminator="name")]
"""Recipe section `protocol`."""

PROTOCOLS: dict[str, type[Sequential] | type[SpawnJoin]] = {
    Sequential.name: Sequential,
    SpawnJoin.name: SpawnJoin,
}


def build_protocol(params: SequentialParams | SpawnJoinParams, encoder: Encoder) -> ThinkingProtocol:
    """Raises ConfigError when a tag is not one token of the tokenizer."""
    return PROTOCOLS[params.name](params, encoder)  # type: ignore[arg-type]
