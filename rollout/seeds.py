"""One seed per call, derived from the call's position in the run and not from when it ran."""

import hashlib


def episode_seed(run_seed: int, group_index: int, sample: int) -> str:
    """Seed of the episode that is sample `sample` of group `group_index`."""
    return f"{run_seed}/{group_index}/{sample}"


def call_seed(seed: str, path: tuple[int, ...], number: int) -> int:
    """Seed in [0, 2**63) of the `number`-th call of thread `path` in the episode with seed `seed`.

    A hash, so that seeds of neighbouring calls are unrelated and do not depend on scheduling or on the
    number of engines.
    """
    text = f"{seed}/{'.'.join(map(str, path))}/{number}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
