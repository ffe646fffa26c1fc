"""Recipes: strict, frozen, light (no torch, no Ray, no vLLM)."""

from rl.config.fingerprint import fingerprint
from rl.config.loading import load_recipe, resolved
from rl.config.recipe import Recipe

__all__ = ["Recipe", "fingerprint", "load_recipe", "resolved"]
