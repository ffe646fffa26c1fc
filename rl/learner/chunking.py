"""Sizes at which a forward pass is cut into pieces. No torch: estimates of memory use them too."""

LOGITS = 2**24
"""Most logits in memory at once; further labels follow in chunks, recomputed in the backward pass."""
