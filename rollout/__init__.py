"""Rollouts: protocols, the episode machine, engines, the episode host and the rollout actor."""
