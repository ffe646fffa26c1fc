"""Scores for finished episodes: one small file per term, composed by the recipe. Imports `data` only."""
