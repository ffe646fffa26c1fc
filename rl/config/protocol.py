"""How a thought forks and joins, and what an episode may cost: the protocols' own parameters."""

from rollout.protocols import AnyParams as ProtocolConfig

__all__ = ["ProtocolConfig"]
