"""Section `protocol`: the parameters of each protocol, discriminated on `name`."""

from rollout.protocols import AnyParams as ProtocolConfig

__all__ = ["ProtocolConfig"]
