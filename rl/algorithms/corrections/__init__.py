"""Corrections for samples of another policy: pure functions on flat tensors, one file each."""
