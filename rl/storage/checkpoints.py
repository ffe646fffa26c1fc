"""Checkpoints of a reinforcement stage: whole or not there at all, and checked before they are used.

step-000010/             model, optimizer, state.json (step, next_group), and
    checksums.json       checksum of each of them (data.checksum)
"""

import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from data.errors import StorageError
from data.whole_file import write_json
from rl.storage.checksums import CHECKSUMS, damage, write_checksums
from rl.storage.files import whole_directory

LEARNERS_OWN = {"optimizer.safetensors", "critic.safetensors", "adapter.safetensors", "state.json", CHECKSUMS}
"""In a checkpoint, but no part of the model."""


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints of a stage, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / CHECKSUMS).exists())


def newest_whole(folder: Path, report: Callable[[str, str], None]) -> Path | None:
    """The newest checkpoint that is as it was written, or None. Damaged ones are put aside and reported."""
    for path in reversed(checkpoints(folder)):
        problem = damage(path)
        if problem is None:
            return path
        aside = path.with_name(f"damaged-{path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        report("checkpoint", f"{path} is damaged ({problem}); it is now {aside.name}, an earlier one serves")
    return None


async def save_checkpoint(
    folder: Path, step: int, *, next_group: int, keep: int, save: Callable[[Path], Coroutine[Any, Any, None]]
) -> None:
    """Writes the checkpoint after `step` steps; the run goes on with `next_group`. Keeps the last `keep`.

    Raises StorageError when the disk does not take it; what was there before is still whole.
    """
    try:
        with whole_directory(folder / f"step-{step:06d}") as place:
            await save(place)
            write_json(place / "state.json", {"step": step, "next_group": next_group})
            write_checksums(place)
    except (OSError, SafetensorError) as error:
        # From another process it comes wrapped, with a traceback in its text.
        reason = getattr(error, "cause", error)
        raise StorageError(
            f"{folder}: the checkpoint after step {step} could not be written ({reason})\n"
            "  fix: make room there; the same command then goes on at the last checkpoint"
        ) from error
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)


def save_final_model(checkpoint: Path, final: Path) -> Path:
    """The checkpoint's weights under the name that later stages look for."""
    with whole_directory(final) as place:
        for path in checkpoint.iterdir():
            if path.name not in LEARNERS_OWN:
                shutil.copyfile(path, place / path.name)
    return final
