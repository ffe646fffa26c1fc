"""The context of a stage: recipe, directory, problems, tokenizer, ledger, and the run's services."""

from collections.abc import Sequence
from pathlib import Path

import ray

from data.errors import ConfigError
from data.ledger.ledger import Ledger
from data.tasks.base import GeneratedTask, Split, Task
from data.tasks.problem import Problem, load_problems, save_problems
from data.tasks.registry import build_task
from data.text.build_words import build_tokenizer
from data.text.codec import Codec, load_codec
from data.text.structure import add_structural_tokens
from rl.config.model import ScratchModel
from rl.config.recipe import Recipe
from rl.config.stages import StageConfig
from rl.config.task import TaskConfig
from rl.config.words import recipe_vocabulary
from rl.runtime.placement import Placement
from rl.runtime.rank_worker import build_start_task
from rl.runtime.services import Services
from rl.storage.checksums import CHECKSUMS, damage, write_checksums
from rl.storage.files import whole_directory
from rl.storage.run_directory import RunDirectory, previous_model
from rl.tracking.accounting import Accounting


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
        self._codec: Codec | None = None

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
        return make_problems(self.task(stage), config, split)

    def previous_model(self, stage: StageConfig) -> Path:
        """Folder of the weights that the stage begins with (`rl.storage.run_directory.previous_model`)."""
        return previous_model(self.recipe, self.directory, stage)

    def report(self, stage_name: str, kind: str, message: str) -> None:
        """Print a fault that the run survives and write it to the ledger."""
        self.services.report(stage_name, kind, message)


def make_problems(task: Task, config: TaskConfig, split: Split) -> list[Problem]:
    """Problems of a split, from its file or generated. They do not depend on the training seed."""
    file = config.file(split)
    if file is not None:
        return load_problems(file, validate=task.validate)
    return task.problems(split, config.num_problems(split), 0)


def prepare(recipe: Recipe, directory: RunDirectory, placement: Placement) -> None:
    """Write problems, tokenizer and initial weights into the run directory, where they are missing."""
    task = build_task(recipe.task.params)
    splits: Sequence[Split] = ("train", "validation", "test")
    for split in splits:
        if not directory.problems(split).exists() and (split == "train" or recipe.task.num_problems(split)):
            save_problems(directory.problems(split), make_problems(task, recipe.task, split))
    folder = directory.problems("train").parent
    if not (folder / CHECKSUMS).exists():
        write_checksums(folder)
    if (directory.start / "config.json").exists():
        return
    with whole_directory(directory.start) as folder:
        make_codec(recipe).save(folder)
        build = build_start_task.options(**placement.here())
        print(ray.get(build.remote(recipe.model, folder, folder, recipe.seed)))
        write_checksums(folder)


def make_codec(recipe: Recipe) -> Codec:
    """Tokenizer with the tags of the recipe's protocols: built from scratch, or the pretrained one."""
    tags, words = recipe_vocabulary(recipe)
    model = recipe.model
    if isinstance(model, ScratchModel):
        configs = dict.fromkeys((recipe.task, *map(recipe.task_of, recipe.stages)))
        tasks = [build_task(config.params) for config in configs]
        own = [word for task in tasks if isinstance(task, GeneratedTask) for word in task.words()]
        every = [*tags, *own, *words]
        return Codec(build_tokenizer(every, numbers=model.numbers, digits=model.digits))
    codec = load_codec(model.path)
    if model.tags == "add":
        add_structural_tokens(codec.tokenizer, tags)
        return Codec(codec.tokenizer)
    return codec
