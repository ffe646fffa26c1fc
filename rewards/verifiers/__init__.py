"""Verifiers: whether the answer of an episode is right."""
