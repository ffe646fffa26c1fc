"""Seeds that are derived from the run's seed."""

import hashlib


def purpose_seed(seed: int, purpose: str) -> int:
    """A seed for one purpose, such as "rl/rollouts", so that no two purposes share random numbers."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=7).digest(), "big")
