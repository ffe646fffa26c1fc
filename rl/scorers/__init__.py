"""Reward models: the rows that they learn from, their training, and how good they are."""
