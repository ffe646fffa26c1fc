"""Seeds for purposes other than training."""

import hashlib


def purpose_seed(seed: int, purpose: str) -> int:
    """A run seed of its own for each purpose, so that evaluation never replays training's random numbers."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=7).digest(), "big")
