"""Folders that are created atomically, and readers of JSON files whose errors name the file."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from data.errors import ConfigError, StorageError

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}

"""Errors of a disk that is full, over quota, read-only or broken."""


@contextmanager
def storing(what: str) -> Iterator[None]:
    """Turns disk errors (full, read-only, broken) into a StorageError that names `what`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno not in DISK_ERRORS:
            raise
        raise StorageError(
            f"{what} could not be written ({error})\n"
            "  fix: make room there; the same command then resumes at the last checkpoint"
        ) from error


def read_json(path: Path) -> Any:
    """Raises ConfigError naming the file when it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error})\n  fix: restore the file, or choose another run directory"
        ) from error


def read_object(path: Path, **types: type) -> dict[str, Any]:
    """The named keys of a JSON object. Raises ConfigError when one is missing or of another type."""
    content = read_json(path)
    for key, kind in types.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), kind):
            raise ConfigError(
                f"{path}: is damaged: it needs {key!r}, of type {kind.__name__}\n"
                "  fix: restore the file, or choose another run directory"
            )
    return {key: content[key] for key in types}


@contextmanager
def whole_directory(final: Path) -> Iterator[Path]:
    """A folder to fill; it is renamed to `final`, replacing an older one, once all of it is on disk."""
    partial = final.with_name(f".{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    for path in [*partial.rglob("*"), partial]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    shutil.rmtree(final, ignore_errors=True)
    partial.replace(final)
