"""Puzzles of the package `reasoning-gym` as a task: its data sets, their settings and their items."""
