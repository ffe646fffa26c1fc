"""Ownership of a run directory by a recipe, and the changes that a resumed run may make."""

import shutil
from pathlib import Path

from data.errors import ConfigError
from rl.config.extensions import FOLDER, copy_name
from rl.config.fingerprint import Change, changed_files, differences, identity
from rl.config.loading import resolved
from rl.config.recipe import Recipe
from rl.storage.files import read_json
from rl.storage.identity import IDENTITY_FILE, RECIPE_FILE, make_identity, read_identity, replace_recipe

_SHOWN = 5
"""Refused changes that are listed; more are counted."""


def own(run_dir: Path, recipe: Recipe, simulated: str = "") -> list[Change]:
    """Assign an empty directory to this recipe, or check its owner. -> accepted changes, not yet kept.

    Args:
        simulated: the simulated side of rl stages, and the run it is taken from; fixed for a run.

    Raises:
        ConfigError: the directory belongs to another recipe, or has other files. Names the refused keys with
            their old and new values, and the files whose content changed.
    """
    now = identity(recipe)
    try:
        # Fails for a file, a loop of links and a name that is too long.
        run_dir.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in run_dir.iterdir()}
        if IDENTITY_FILE not in names:
            # A kill while the run was made leaves these.
            if names - {FOLDER, RECIPE_FILE, f".{RECIPE_FILE}.partial", f".{IDENTITY_FILE}.partial"}:
                raise ConfigError(
                    f"{run_dir}: is not empty and not a run directory\n  fix: choose another --run directory"
                )
            _copy_extensions(run_dir, recipe)
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


def _copy_extensions(run_dir: Path, recipe: Recipe) -> None:
    """Copy the recipe's extensions, so that the run can be read and worked on without the originals."""
    for index, path in enumerate(recipe.extensions):
        (run_dir / FOLDER).mkdir(exist_ok=True)
        shutil.copyfile(path, run_dir / FOLDER / copy_name(index, path))


def keep(run_dir: Path, recipe: Recipe) -> None:
    """Write the accepted changes into the run's recipe, so that later readers find the new values."""
    replace_recipe(run_dir, resolved(recipe))
