"""What a server needs to know of an export: protocol, longest call, number format, checksum."""

from dataclasses import dataclass
from pathlib import Path

import xxhash

from data.errors import ConfigError
from rl.export.described import EXPORT_AGAIN, Dtype, read_described
from rl.storage.checksums import CHECKSUMS, damage
from rollout.protocols import AnyParams


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """An export that can be served."""

    directory: Path
    params: AnyParams
    """Protocol that the model was trained with, framing included."""
    max_length: int
    """Longest context + output of one call, in tokens."""
    dtype: Dtype
    """Number format of the engines that the model was trained and evaluated with."""
    created: int
    """When it was written, in seconds since 1970."""
    fingerprint: str
    """Checksum of all its files."""


def read_exported(directory: Path) -> Exported:
    """Raises ConfigError for a directory that is no export, is damaged, or lacks protocol or framing."""
    described = read_described(directory)
    if problem := damage(directory):
        raise ConfigError(f"{directory}: {problem}\n  {EXPORT_AGAIN}")
    checksums = directory / CHECKSUMS
    return Exported(
        directory=directory,
        params=described.params,
        max_length=described.max_length,
        dtype=described.dtype,
        created=int(checksums.stat().st_mtime),
        fingerprint=f"braid_{xxhash.xxh3_64_hexdigest(checksums.read_bytes())}",
    )
