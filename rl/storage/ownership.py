"""To which recipe a run directory belongs, and what a resumed run may change."""

from pathlib import Path

from data.errors import ConfigError
from data.whole_file import write_json
from rl.config.fingerprint import Change, changed_files, differences, identity
from rl.config.loading import resolved
from rl.config.recipe import Recipe
from rl.storage.files import read_json

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
    marker, now = run_dir / "fingerprint.json", identity(recipe)
    if not marker.exists():
        if run_dir.exists() and any(run_dir.iterdir()):
            raise ConfigError(
                f"{run_dir}: is not empty and not a run directory\n  fix: choose another --run directory"
            )
        write_json(run_dir / "recipe.json", resolved(recipe))
        write_json(marker, {"fingerprint": now.fingerprint, "files": now.files, "simulated": simulated})
        return []
    kept = read_json(marker)
    if not isinstance(kept, dict) or not {"fingerprint", "files", "simulated"} <= kept.keys():
        raise ConfigError(
            f"{marker}: has no fingerprint that this version reads\n  fix: choose another --run directory"
        )
    changes = differences(read_json(run_dir / "recipe.json"), recipe)
    refused = [str(change) for change in changes if not change.accepted]
    refused += changed_files(kept["files"], now.files)
    if kept["simulated"] != simulated:
        refused.append(f"simulated: {kept['simulated'] or 'nothing'} there, {simulated or 'nothing'} here")
    if not refused and kept["fingerprint"] != now.fingerprint:
        refused.append("the order of stages or terms, or recipe.json was edited")
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
    write_json(run_dir / "recipe.json", resolved(recipe))
