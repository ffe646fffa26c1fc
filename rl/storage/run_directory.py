"""The run directory: all files that a resume, a report or an export needs. None is pickled.

recipe.json                the resolved recipe; fingerprint.json: the run's identity
extensions/                copies of the files in the recipe's `extensions`
problems/SPLIT.jsonl       the problems
start/                     initial weights and tokenizer (a Hugging Face directory), checksums.json
stages/NAME/               checkpoints, record, outcomes; at the end model/ with checksums.json, done.json
ledger.sqlite              which group was run, filtered, trained, when; faults (docs/ledger.md)
metrics.jsonl              one line a step; tensorboard/ and trackers/: the same, for other programs
activity.json              what the run is doing now, for `braid top`
logs/                      stacks of processes that hung
summary.json, figure.png   the figures
"""

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from data.checksum import ChecksumMemory, file_checksum
from data.errors import ConfigError
from data.ledger.ledger import Ledger
from data.whole_file import write_json
from rl.config import Recipe
from rl.config.extensions import copies, load_extensions
from rl.config.fingerprint import Change
from rl.config.stages import START, StageConfig
from rl.learner.added_tags import TAG_FILE
from rl.storage.checksums import damage, write_checksums
from rl.storage.files import read_json
from rl.storage.identity import IDENTITY_FILE, RECIPE_FILE, read_identity
from rl.storage.ownership import keep, own


class RunDirectory:
    """Paths and markers of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._checksum = ChecksumMemory()

    def open(self, recipe: Recipe, simulated: str = "") -> list[Change]:
        """Assign the directory to this recipe, or check its owner (`rl.storage.ownership.own`)."""
        return own(self.path, recipe, simulated)

    def accept(self, recipe: Recipe) -> None:
        """Write the changes of the resumed run into recipe.json."""
        keep(self.path, recipe)

    @property
    def run_id(self) -> str:
        """Random digits that the run's files share. Raises ConfigError when recipe.json was edited."""
        return read_identity(self.path).run_id

    def recipe(self) -> Recipe:
        """The recipe of the run. Raises ConfigError without a recipe.json, or when it was edited."""
        path = self.path / RECIPE_FILE
        if not path.exists():
            raise ConfigError(
                f"{self.path}: is not a run directory (no recipe.json); give one that `braid train` made"
            )
        if (self.path / IDENTITY_FILE).exists():
            self._load_extensions(read_identity(self.path).files)
        try:
            return Recipe.model_validate_json(json.dumps(read_json(path))).from_file(str(path))
        except ValidationError as error:
            key = ".".join(map(str, error.errors()[0]["loc"]))
            raise ConfigError(
                f"{path}: is not a recipe of this version of Braid ({key}: {error.errors()[0]['msg']})\n"
                "  fix: restore the file, or use the Braid that made the run"
            ) from error

    def _load_extensions(self, files: dict[str, dict[str, str]]) -> None:
        """Load the run's copies of its extensions. Raises ConfigError for one that was changed."""
        paths = copies(self.path)
        for index, path in enumerate(paths):
            if file_checksum(path) not in files.get(f"extensions.{index}", {}).values():
                raise ConfigError(
                    f"{path}: was changed after the run was made\n  fix: restore it from the original"
                )
        load_extensions(paths)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the directory for this process. Raises ConfigError when another process has the lock.

        The system releases the lock when the process ends, also by a crash: there is nothing to clean up.
        """
        with (self.path / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    f"{self.path}: another braid process is working on this run\n"
                    "  fix: wait for it or stop it, or choose another --run directory"
                ) from error
            yield

    @property
    def start(self) -> Path:
        """Initial weights and tokenizer."""
        return self.path / START

    @property
    def ledger(self) -> Path:
        """The run's SQLite database."""
        return self.path / "ledger.sqlite"

    def open_ledger(self) -> Ledger:
        """The run's ledger, to write. Raises ConfigError for that of another run, and for one that is missing
        though the run has begun.
        """
        if not self.ledger.exists() and self.saved():
            raise ConfigError(
                f"{self.ledger}: is missing, though stages of the run have begun\n"
                "  fix: restore the file, or choose another --run directory"
            )
        return Ledger.open(self.ledger, run_id=self.run_id)

    @property
    def logs(self) -> Path:
        """Stacks of processes that hung; created."""
        folder = self.path / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def problems(self, split: str) -> Path:
        """The problems of a split."""
        return self.path / "problems" / f"{split}.jsonl"

    def stage(self, name: str) -> Path:
        """A stage's own folder, created."""
        folder = self.path / "stages" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def done(self, name: str) -> dict[str, Any] | None:
        """Content of a finished stage's done.json, or None."""
        marker = self.path / "stages" / name / "done.json"
        return read_json(marker) if marker.exists() else None

    def finish(self, name: str, result: dict[str, Any]) -> None:
        """Mark a stage as finished; it is never repeated."""
        write_json(self.stage(name) / "done.json", result)

    def saved(self) -> set[Path]:
        """Results that a resumed run does not repeat: finished stages, checkpoints, evaluations."""
        kinds = ("done.json", "step-*", "checkpoints/step-*", "*.jsonl")
        return {path for kind in kinds for path in self.path.glob(f"stages/*/{kind}")}

    def model(self, name: str) -> Path:
        """Weights of a finished sft or rl stage, or, as `start`, the initial ones.

        Raises ConfigError when there are none, or a file was changed since it was written.
        """
        folder = self.start if name == START else self.path / "stages" / name / "model"
        if not (folder / "config.json").exists():
            what = (
                "the run has no initial weights" if name == START else f"stage {name!r} has no final weights"
            )
            raise ConfigError(f"{folder}: {what} yet\n  fix: start or resume the run with `braid train`")
        if problem := damage(folder, self._checksum):
            marker = "" if name == START else f" and {folder.with_name('done.json')}"
            raise ConfigError(
                f"{folder}: {problem}\n"
                f"  fix: restore the file, or remove {folder}{marker}; `braid train` then makes it again"
            )
        return folder

    def complete_model(self, name: str) -> None:
        """Copy tokenizer and added tags of the run beside a stage's new weights; record all checksums."""
        folder = self.path / "stages" / name / "model"
        for path in self.start.iterdir():
            if "token" in path.name or path.suffix == ".jinja" or path.name == TAG_FILE:
                shutil.copyfile(path, folder / path.name)
        write_checksums(folder)


def previous_model(recipe: Recipe, directory: RunDirectory, stage: StageConfig) -> Path:
    """The weights a stage starts from (`Recipe.begins_with`).

    Raises ConfigError when there are none, or they are damaged.
    """
    return directory.model(recipe.begins_with(stage))


def trained_stage(run_dir: Path, checkpoint: str | None) -> tuple[Recipe, RunDirectory, str]:
    """-> recipe, directory and name of a stage with weights: `checkpoint`, or the last trained stage.

    Raises ConfigError for a directory that is not a run, an unknown stage, and one without weights.
    """
    directory = RunDirectory(run_dir)
    recipe = directory.recipe()
    names = [START, *(stage.name for stage in recipe.policy_stages())]
    name = checkpoint or names[-1]
    if name not in names:
        raise ConfigError(
            f"--checkpoint {name}: {run_dir} has no such trained stage; there are {', '.join(names)}"
        )
    directory.model(name)
    return recipe, directory, name
