"""Advantages: pure functions on rewards, one file each."""
