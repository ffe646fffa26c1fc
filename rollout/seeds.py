"""One seed per call, from where the call stands and not from when it ran."""

import hashlib


def call_seed(run_seed: int, group: int, sample: int, path: tuple[int, ...], number: int) -> int:
    """Seed in [0, 2**63) of the `number`-th call of thread `path` in sample `sample` of group `group`.

    A hash, so that seeds of neighbouring calls are unrelated and do not depend on scheduling or on the
    engine count.
    """
    text = f"{run_seed}/{group}/{sample}/{'.'.join(map(str, path))}/{number}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
