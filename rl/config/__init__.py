"""Recipes: strict, frozen, light (no torch, no Ray, no vLLM)."""

from rl.config.loading import differences, fingerprint, load_recipe, resolved
from rl.config.recipe import Recipe

__all__ = ["Recipe", "differences", "fingerprint", "load_recipe", "resolved"]
