"""Finds pickled files by their content."""

import pickletools
import zipfile
from pathlib import Path


def pickles(folder: Path) -> list[Path]:
    """Files under a folder that pickle or torch.save wrote."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and _is_pickle(path)]


def _is_pickle(path: Path) -> bool:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    content = path.read_bytes()
    if not content.startswith(b"\x80"):
        return False
    try:
        list(pickletools.genops(content))
    except ValueError:
        return False
    return True
