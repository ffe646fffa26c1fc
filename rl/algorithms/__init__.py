"""Algorithms as formulas: advantages, losses and corrections, pure functions, one file each."""
