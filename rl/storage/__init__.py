"""Files of a run: its directory, checkpoints, and the rollout record."""
