"""What a server needs to know of an export: protocol, longest call, number format, checksum."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import xxhash
from pydantic import TypeAdapter, ValidationError

from data.errors import ConfigError
from rl.export.directory import EXPORT_FORMAT, PROTOCOL_FILE
from rl.storage.checksums import CHECKSUMS, damage
from rollout.protocols import AnyParams

Dtype = Literal["float32", "bfloat16"]
_FIX = "fix: write the export again with `braid export RUN --output DIR`"


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
    described = _described(directory)
    if problem := damage(directory):
        raise ConfigError(f"{directory}: {problem}\n  {_FIX}")
    where = f"{directory / PROTOCOL_FILE}"
    if described.get("format") != EXPORT_FORMAT:
        raise ConfigError(f"{where}: format is {described.get('format')!r}, not {EXPORT_FORMAT!r}\n  {_FIX}")
    for key in ("protocol", "max_length", "dtype"):
        if key not in described:
            raise ConfigError(f"{where}: has no {key!r}\n  {_FIX}")
    try:
        params: AnyParams = TypeAdapter[AnyParams](AnyParams).validate_json(json.dumps(described["protocol"]))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, ("protocol", *first["loc"])))
        raise ConfigError(f"{where}: {key}: {first['msg']}\n  {_FIX}") from None
    if params.framing is None:
        raise ConfigError(f"{where}: protocol.framing is missing, so it does not say how to ask\n  {_FIX}")
    length, dtype = described["max_length"], described["dtype"]
    if not isinstance(length, int) or length < 2 or dtype not in get_args(Dtype):
        raise ConfigError(f"{where}: max_length {length!r} or dtype {dtype!r} is none\n  {_FIX}")
    checksums = directory / CHECKSUMS
    return Exported(
        directory=directory,
        params=params,
        max_length=length,
        dtype=cast(Dtype, dtype),
        created=int(checksums.stat().st_mtime),
        fingerprint=f"braid_{xxhash.xxh3_64_hexdigest(checksums.read_bytes())}",
    )


def _described(directory: Path) -> dict[str, Any]:
    path = directory / PROTOCOL_FILE
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{directory}: is no export ({path.name}: {error.strerror or error})\n"
            "  fix: name a directory that `braid export` or a recipe's export stage wrote"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not JSON ({error})\n  {_FIX}") from error
    if not isinstance(described, dict):
        raise ConfigError(f"{path}: is not a JSON object\n  {_FIX}")
    return described
