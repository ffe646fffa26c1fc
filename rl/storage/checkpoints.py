"""Checkpoints of a stage: complete or absent, and checked before they are used.

step-000010/             model, optimizer, state.json (step, next_group), and
    checksums.json       checksum of each of them (data.checksum)

A reinforcement stage copies the learner's state at the end of a step and writes it during the next steps.
"""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from data.errors import StorageError
from rl.storage.checksums import CHECKSUMS, damage, write_checksums
from rl.storage.files import whole_directory

LEARNERS_OWN = {
    "optimizer.safetensors", "critic.safetensors", "implicit.safetensors", "adapter.safetensors",
    "state.json", CHECKSUMS,
}  # fmt: skip
"""Files of a checkpoint that are not part of the model."""


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints of a stage, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / CHECKSUMS).exists())


def newest_whole(folder: Path, report: Callable[[str, str], None]) -> Path | None:
    """The newest undamaged checkpoint, or None. Damaged ones are renamed and reported.

    Incomplete ones are removed first, so that a process that is still ending cannot complete one later: the
    ledger goes back to the checkpoint returned here.
    """
    for partial in folder.glob(".step-*.partial"):
        shutil.rmtree(partial, ignore_errors=True)
    for path in reversed(checkpoints(folder)):
        problem = damage(path)
        if problem is None:
            return path
        aside = path.with_name(f"damaged-{path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        report(
            "checkpoint",
            f"{path} is damaged ({problem}); renamed to {aside.name}; using an earlier checkpoint",
        )
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """Which checkpoint to write, and where."""

    folder: Path
    """Folder of the stage: the checkpoint becomes step-NNNNNN in it."""
    step: int
    """Steps trained so far."""
    next_group: int
    """First group that is neither trained nor filtered out, where a resume starts."""
    keep: int
    """Number of checkpoints kept, this one included."""


def write_checkpoint(checkpoint: Checkpoint, write: Callable[[Path], None]) -> None:
    """Writes one checkpoint and removes the oldest ones; `write` fills a directory with the learner's files.

    Raises StorageError when it cannot be written; earlier checkpoints stay whole.
    """
    folder, step = checkpoint.folder, checkpoint.step
    try:
        with whole_directory(folder / f"step-{step:06d}") as place:
            write(place)
            # Not by write_json, which would make the folder again if a resume has removed it.
            state = {"step": step, "next_group": checkpoint.next_group}
            (place / "state.json").write_text(json.dumps(state), encoding="utf-8")
            write_checksums(place)
    except OSError as error:
        raise StorageError(
            f"{folder}: the checkpoint after step {step} could not be written ({error})\n"
            "  fix: make room there; the same command then resumes at the last checkpoint"
        ) from error
    for old in checkpoints(folder)[: -checkpoint.keep]:
        shutil.rmtree(old)


class CheckpointWriter:
    """Writes checkpoints in a thread, one at a time, while training continues."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._running: Future[None] | None = None

    def start(self, checkpoint: Checkpoint, write: Callable[[Path], None]) -> None:
        """Begins to write; call `wait` first. Errors are raised by the next `wait`."""
        assert self._running is None, "wait() first"
        self._running = self._executor.submit(write_checkpoint, checkpoint, write)

    def wait(self) -> None:
        """Returns when the last checkpoint is complete on disk. Raises the errors of `write_checkpoint`."""
        running, self._running = self._running, None
        if running is not None:
            running.result()


def save_final_model(checkpoint: Path, final: Path) -> Path:
    """Copies a checkpoint's model to `final`, where later stages read it."""
    with whole_directory(final) as place:
        for path in checkpoint.iterdir():
            if path.name not in LEARNERS_OWN:
                shutil.copyfile(path, place / path.name)
    return final
