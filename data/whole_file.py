"""The one way to write a file: whole or not at all, whatever kills the process meanwhile."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A new file to fill. At the end it is flushed to disk and renamed to `path`, replacing an older one.

    Missing folders are made. When the block raises, `path` stays as it was and nothing is left beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text, whole or not at all."""
    with whole_file(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any, *, sort_keys: bool = True) -> None:
    """Writes one indented JSON document, whole or not at all.

    Raises:
        ValueError: `value` holds NaN or an infinity, which JSON has no number for.
    """
    write_text(path, json.dumps(value, indent=2, sort_keys=sort_keys, allow_nan=False) + "\n")


def json_line(value: Any) -> bytes:
    """One line of a JSON Lines file, without spaces.

    Raises:
        ValueError: `value` holds NaN or an infinity, which JSON has no number for.
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n"
