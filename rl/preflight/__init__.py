"""Checks before a run: the recipe, the machine."""
