"""The context of a stage: recipe, directory, problems, tokenizer, ledger, and the run's services."""

from pathlib import Path

import ray

from data.errors import ConfigError
from data.ledger.ledger import Ledger
from data.tasks.base import Split, Task
from data.tasks.dataset.loading import Loaded
from data.tasks.problem import Problem, load_problems, save_problems
from data.tasks.registry import build_task
from data.text.codec import Codec, load_codec
from data.whole_file import write_json
from rl.config.codec import make_codec
from rl.config.loading import resolved
from rl.config.recipe import Recipe
from rl.config.stages import StageConfig
from rl.config.task import SPLITS, DatasetTask, JudgeTask
from rl.problems import load_dataset, make_problems
from rl.runtime.placement import Placement
from rl.runtime.rank_worker import build_start_task
from rl.runtime.services import Services
from rl.scorers.judged_problems import judged_problems
from rl.storage.checksums import CHECKSUMS, damage, write_checksums
from rl.storage.files import whole_directory
from rl.storage.run_directory import RunDirectory, previous_model
from rl.tracking.accounting import Accounting
from rl.tracking.activity_file import ActivityFile
from rl.tracking.live import LiveTrackers
from rl.tracking.trackers.base import TrackedStage

DATASET_FILE = "dataset.json"
"""Counts of a data set's rows, beside the problems."""


class RunContext:
    """One run, as its stages see it."""

    def __init__(
        self,
        recipe: Recipe,
        directory: RunDirectory,
        accounting: Accounting,
        ledger: Ledger,
        services: Services,
    ) -> None:
        self.recipe = recipe
        self.directory = directory
        self.accounting = accounting
        self.ledger = ledger
        self.services = services
        self.activity = ActivityFile(directory.path)
        """What the run is doing, for whoever watches it."""
        self._codec: Codec | None = None
        self._dataset: tuple[DatasetTask | None, dict[Split, Loaded]] = (None, {})

    @property
    def codec(self) -> Codec:
        """The run's tokenizer (after `prepare`)."""
        if self._codec is None:
            self._codec = load_codec(self.directory.start)
        return self._codec

    def task(self, stage: StageConfig) -> Task:
        """The task that the stage works on."""
        return build_task(self.recipe.task_of(stage).params)

    def problems(self, stage: StageConfig, split: Split) -> list[Problem]:
        """A split of the stage's task: from the run directory when it is the recipe's own task, else
        generated or loaded.
        """
        config = self.recipe.task_of(stage)
        saved = self.directory.problems(split)
        if config == self.recipe.task and saved.exists():
            if problem := damage(saved.parent):
                raise ConfigError(
                    f"{saved.parent}: {problem}, so it is not what the run trains on\n"
                    "  fix: restore the file from a copy, or start another --run directory"
                )
            return load_problems(saved)
        if isinstance(config, DatasetTask):
            return [placed.problem for placed in self._loaded(config)[split].problems]
        if isinstance(config, JudgeTask):
            judged = judged_problems(self.recipe, config, split, self.codec, self.directory)
            if not judged:
                raise ConfigError(
                    f"{stage.name}: there is no labelled solution for the {split} split\n"
                    f"  fix: label more of them, or raise task.params.{split}_percent"
                )
            return judged
        return make_problems(self.task(stage), config, split)

    def _loaded(self, config: DatasetTask) -> dict[Split, Loaded]:
        """The rows of a stage's own data set, read once."""
        if config != self._dataset[0]:
            self._dataset = config, load_dataset(self.recipe, config, self.codec)
        return self._dataset[1]

    def previous_model(self, stage: StageConfig) -> Path:
        """Folder of the weights that the stage begins with (`rl.storage.run_directory.previous_model`)."""
        return previous_model(self.recipe, self.directory, stage)

    def trackers(self, stage: StageConfig) -> LiveTrackers:
        """Where the stage's metrics go besides metrics.jsonl, as the recipe has it."""
        tracking = self.recipe.tracking
        tracked = TrackedStage(
            run_dir=self.directory.path,
            run_id=self.directory.run_id,
            stage=stage.name,
            project=tracking.project or self.recipe.name,
            recipe=resolved(self.recipe),
        )
        return LiveTrackers(
            tracking.trackers,
            tracked,
            lambda failure: self.report(stage.name, "tracker", str(failure)),
            aliases=tracking.aliases,
        )

    def report(self, stage_name: str, kind: str, message: str) -> None:
        """Print a fault that the run survives and write it to the ledger."""
        self.services.report(stage_name, kind, message)


def prepare(recipe: Recipe, directory: RunDirectory, placement: Placement) -> None:
    """Write problems, tokenizer and initial weights into the run directory, where they are missing."""
    folder = directory.problems("train").parent
    if not (folder / CHECKSUMS).exists():
        _write_problems(recipe, directory)
        write_checksums(folder)
    if (directory.start / "config.json").exists():
        return
    with whole_directory(directory.start) as folder:
        make_codec(recipe).save(folder)
        build = build_start_task.options(**placement.here())
        print(ray.get(build.remote(recipe.model, folder, folder, recipe.seed)))
        write_checksums(folder)


def _write_problems(recipe: Recipe, directory: RunDirectory) -> None:
    if isinstance(recipe.task, DatasetTask):
        loaded = load_dataset(recipe, recipe.task, make_codec(recipe))
        for split, part in loaded.items():
            save_problems(directory.problems(split), [placed.problem for placed in part.problems])
            print(f"{split}: {part}")
        counts = {split: part.counts() for split, part in loaded.items()}
        write_json(directory.problems("train").with_name(DATASET_FILE), counts, sort_keys=False)
        return
    task = build_task(recipe.task.params)
    for split in SPLITS:
        if not recipe.task.has(split) or directory.problems(split).exists():
            continue
        if isinstance(recipe.task, JudgeTask):
            problems = judged_problems(recipe, recipe.task, split, make_codec(recipe), directory)
        else:
            problems = make_problems(task, recipe.task, split)
        if problems:
            save_problems(directory.problems(split), problems)
