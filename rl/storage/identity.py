"""Identity of a run directory: fingerprint.json, written when the run is made.

fingerprint, files, simulated    what a resume must find again (rl.storage.ownership)
run_id                           random digits, also in the ledger: that of another run is refused
recipes                          XXH3 of recipe.json as it is now, and as it was before the last change
"""

import json
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import xxhash

from data.checksum import file_checksum
from data.errors import ConfigError
from data.whole_file import write_json, write_text
from rl.storage.files import read_object

RECIPE_FILE = "recipe.json"
IDENTITY_FILE = "fingerprint.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunIdentity:
    """The content of fingerprint.json."""

    fingerprint: str
    """SHA-256 (hex) of the recipe's science."""
    files: dict[str, dict[str, str]]
    """Key -> {path: XXH3 of the content} of every file that the recipe names."""
    simulated: str
    """The simulated side of rl stages, and the run it is taken from; empty when both sides are real."""
    run_id: str
    """Random digits that the run's files share."""
    recipes: list[str]
    """Checksums that recipe.json may have."""


def make_identity(run_dir: Path, recipe: dict[str, Any], **science: Any) -> None:
    """Writes both files of a new run."""
    text = _text(recipe)
    identity = RunIdentity(run_id=secrets.token_hex(16), recipes=[_checksum(text)], **science)
    write_text(run_dir / RECIPE_FILE, text)
    write_json(run_dir / IDENTITY_FILE, asdict(identity))


def read_identity(run_dir: Path) -> RunIdentity:
    """Raises ConfigError when a file is missing or damaged, or recipe.json was edited."""
    path = run_dir / IDENTITY_FILE
    identity = RunIdentity(
        **read_object(path, fingerprint=str, files=dict, simulated=str, run_id=str, recipes=list)
    )
    try:
        known = file_checksum(run_dir / RECIPE_FILE) in identity.recipes
    except OSError as error:
        raise ConfigError(
            f"{run_dir / RECIPE_FILE}: cannot be read ({error.strerror})\n  fix: restore the file"
        ) from error
    if not known:
        raise ConfigError(
            f"{run_dir / RECIPE_FILE}: was changed after the run was made\n"
            "  fix: restore the file; for another recipe, choose another --run directory"
        )
    return identity


def replace_recipe(run_dir: Path, recipe: dict[str, Any]) -> None:
    """Writes recipe.json anew, for accepted changes. A kill between the two writes leaves a sound run."""
    identity, text = read_identity(run_dir), _text(recipe)
    now = _checksum(text)
    before = file_checksum(run_dir / RECIPE_FILE)
    if now != before:
        write_json(run_dir / IDENTITY_FILE, asdict(replace(identity, recipes=[now, before])))
        write_text(run_dir / RECIPE_FILE, text)


def _text(recipe: dict[str, Any]) -> str:
    return json.dumps(recipe, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _checksum(text: str) -> str:
    return str(xxhash.xxh3_128_hexdigest(text.encode()))
