"""One way to name the content of a file, shared by whoever writes weights and whoever loads them."""

from pathlib import Path
from time import time_ns

import xxhash

_CHUNK = 1 << 20
_SETTLED_NS = 2_000_000_000
"""How long ago a file must have been touched: within a tick of the file system's clock, another write leaves
the same times.
"""


def file_checksum(path: Path) -> str:
    """XXH3 of a file's bytes, 32 lowercase hexadecimal digits: against accidents, not against an adversary.

    Ten times as fast as SHA-256: each publish computes it twice. Raises OSError when it cannot be read.
    """
    digest = xxhash.xxh3_128()
    buffer = memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            digest.update(buffer[:size])
    return str(digest.hexdigest())


class ChecksumMemory:
    """`file_checksum` that reads a file again only when it was touched: for a large one, asked for often."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, ...], str]] = {}

    def __call__(self, path: Path) -> str:
        """See `file_checksum`."""
        now, stamp = time_ns(), _stamp(path)
        known = self._known.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        checksum = file_checksum(path)
        # Or it changed while it was read, or could change now and nobody would see it.
        if _stamp(path) == stamp and now - stamp[-1] > _SETTLED_NS:
            self._known[path] = (stamp, checksum)
        return checksum


def _stamp(path: Path) -> tuple[int, ...]:
    """Another one after every write or replacement. The last is the ctime in nanoseconds: unlike the mtime,
    no program can set it back.
    """
    stat = path.stat()
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
