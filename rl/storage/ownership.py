"""To which recipe a run directory belongs, and what a resumed run may change."""

from pathlib import Path

from data.errors import ConfigError
from rl.config.fingerprint import Change, changed_files, differences, identity
from rl.config.loading import resolved
from rl.config.recipe import Recipe
from rl.storage.files import read_json
from rl.storage.identity import IDENTITY_FILE, RECIPE_FILE, make_identity, read_identity, replace_recipe

_SHOWN = 5
"""Refused changes that are listed; more are counted."""


def own(run_dir: Path, recipe: Recipe, simulated: str = "") -> list[Change]:
    """Makes an empty directory this recipe's, or checks that it is. -> the accepted changes, not yet kept.

    Args:
        simulated: which side of rl stages is simulated, and from which run; a run keeps to it.

    Raises:
        ConfigError: the directory is another recipe's, or has other things in it. Names the refused keys with
            their old and new values, and the files whose content changed.
    """
    now = identity(recipe)
    try:
        # Refuses a file, a loop of links and a name that is too long.
        run_dir.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in run_dir.iterdir()}
        if IDENTITY_FILE not in names:
            # A kill while the run was made leaves these.
            if names - {RECIPE_FILE, f".{RECIPE_FILE}.partial", f".{IDENTITY_FILE}.partial"}:
                raise ConfigError(
                    f"{run_dir}: is not empty and not a run directory\n  fix: choose another --run directory"
                )
            make_identity(
                run_dir,
                resolved(recipe),
                fingerprint=now.fingerprint,
                files=now.files,
                simulated=simulated,
            )
            return []
    except OSError as error:
        raise ConfigError(
            f"{run_dir}: cannot hold a run ({error.strerror or error})\n  fix: choose another --run directory"
        ) from error
    kept = read_identity(run_dir)
    changes = differences(read_json(run_dir / RECIPE_FILE), recipe)
    refused = [str(change) for change in changes if not change.accepted]
    refused += changed_files(kept.files, now.files)
    if kept.simulated != simulated:
        refused.append(f"simulated: {kept.simulated or 'nothing'} there, {simulated or 'nothing'} here")
    if not refused and kept.fingerprint != now.fingerprint:
        refused.append("the order of stages or terms")
    if refused:
        more = f"\n  and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
        raise ConfigError(
            f"{run_dir}: holds a run of another recipe\n  "
            + "\n  ".join(refused[:_SHOWN])
            + f"{more}\n  fix: choose another --run directory, or go back to what the run was started with"
        )
    return changes


def keep(run_dir: Path, recipe: Recipe) -> None:
    """Makes the accepted changes part of the run: what reads its recipe later finds the new values."""
    replace_recipe(run_dir, resolved(recipe))
