"""The protocols there are: one file each, one line here."""

from typing import Annotated

from pydantic import Field, TypeAdapter

from data.errors import ConfigError
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
    "default_params",
]

AnyParams = Annotated[SequentialParams | SpawnJoinParams, Field(discriminator="name")]
"""Recipe section `protocol`."""

PROTOCOLS: dict[str, type[Sequential] | type[SpawnJoin]] = {
    Sequential.name: Sequential,
    SpawnJoin.name: SpawnJoin,
}


def default_params(name: str) -> SequentialParams | SpawnJoinParams:
    """A protocol's default parameters. Raises ConfigError for an unknown name."""
    if name not in PROTOCOLS:
        raise ConfigError(
            f"protocol {name!r}: there is none of that name; choose from {', '.join(sorted(PROTOCOLS))}"
        )
    return TypeAdapter[SequentialParams | SpawnJoinParams](AnyParams).validate_python({"name": name})


def build_protocol(params: SequentialParams | SpawnJoinParams, encoder: Encoder) -> ThinkingProtocol:
    """Raises ConfigError when a tag is not one token of the tokenizer."""
    return PROTOCOLS[params.name](params, encoder)
