"""Checksums of the files of one folder: written last, compared before any of the files is used.

checksums.json    {"model.safetensors": "1f3a...", ...}: one XXH3 (data.checksum) for each file
"""

import json
from collections.abc import Callable
from pathlib import Path

from data.checksum import file_checksum
from data.whole_file import write_json
from rl.storage.files import read_json

CHECKSUMS = "checksums.json"


def write_checksums(folder: Path) -> None:
    """Records every file of the folder as it is now."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != CHECKSUMS)
    write_json(folder / CHECKSUMS, {path.name: file_checksum(path) for path in files})


def recorded(folder: Path) -> dict[str, str]:
    """Checksums by file name, as they were recorded. Raises ConfigError if they cannot be read."""
    checksums: dict[str, str] = read_json(folder / CHECKSUMS)
    return checksums


def damage(folder: Path, checksum_of: Callable[[Path], str] = file_checksum) -> str | None:
    """What is wrong with the recorded files, or None: then every byte is as it was written."""
    try:
        expected = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"{CHECKSUMS} cannot be read ({error})"
    if not isinstance(expected, dict):
        return f"{CHECKSUMS} holds no checksums"
    for name, checksum in sorted(expected.items()):
        try:
            if checksum_of(folder / name) != checksum:
                return f"{name} is not what was written"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None
