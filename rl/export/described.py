"""What an export says of itself (protocol.json): protocol, longest call, number format of the engines."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from pydantic import TypeAdapter, ValidationError

from data.errors import ConfigError
from rl.export.directory import EXPORT_FORMAT, PROTOCOL_FILE
from rollout.protocols import AnyParams

Dtype = Literal["float32", "bfloat16"]
EXPORT_AGAIN = "fix: write the export again with `braid export RUN --output DIR`"


@dataclass(frozen=True, kw_only=True, slots=True)
class Described:
    """The description of an export."""

    params: AnyParams
    """Protocol that the model was trained with, framing included."""
    max_length: int
    """Longest context + output of one call, in tokens."""
    dtype: Dtype
    """Number format of the engines that the model was trained and evaluated with."""


def read_described(directory: Path) -> Described:
    """The description in an export. Raises ConfigError where it is missing, damaged, or lacks a part."""
    described, where = _read(directory), f"{directory / PROTOCOL_FILE}"
    if described.get("format") != EXPORT_FORMAT:
        raise ConfigError(
            f"{where}: format is {described.get('format')!r}, not {EXPORT_FORMAT!r}\n  {EXPORT_AGAIN}"
        )
    for key in ("protocol", "max_length", "dtype"):
        if key not in described:
            raise ConfigError(f"{where}: has no {key!r}\n  {EXPORT_AGAIN}")
    try:
        params: AnyParams = TypeAdapter[AnyParams](AnyParams).validate_json(json.dumps(described["protocol"]))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, ("protocol", *first["loc"])))
        raise ConfigError(f"{where}: {key}: {first['msg']}\n  {EXPORT_AGAIN}") from None
    if params.framing is None:
        raise ConfigError(
            f"{where}: protocol.framing is missing, so it does not say how to ask\n  {EXPORT_AGAIN}"
        )
    length, dtype = described["max_length"], described["dtype"]
    if not isinstance(length, int) or length < 2 or dtype not in get_args(Dtype):
        raise ConfigError(f"{where}: max_length {length!r} or dtype {dtype!r} is none\n  {EXPORT_AGAIN}")
    return Described(params=params, max_length=length, dtype=cast(Dtype, dtype))


def _read(directory: Path) -> dict[str, Any]:
    path = directory / PROTOCOL_FILE
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{directory}: is no export ({path.name}: {error.strerror or error})\n"
            "  fix: name a directory that `braid export` or a recipe's export stage wrote"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not JSON ({error})\n  {EXPORT_AGAIN}") from error
    if not isinstance(described, dict):
        raise ConfigError(f"{path}: is not a JSON object\n  {EXPORT_AGAIN}")
    return described
