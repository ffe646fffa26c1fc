"""Recipes: strict, frozen pydantic models. Imports neither torch, Ray nor vLLM."""

from rl.config.fingerprint import fingerprint
from rl.config.loading import load_recipe, resolved
from rl.config.recipe import Recipe

__all__ = ["Recipe", "fingerprint", "load_recipe", "resolved"]
