"""The terms of the reward: their own parameters, discriminated on `name`."""

from rewards.compose import RewardConfig

__all__ = ["RewardConfig"]
