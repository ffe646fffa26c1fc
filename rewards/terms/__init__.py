"""Reward terms: one file each, listed in `rewards.compose.TERMS`."""
