"""What is asked, and how answers are graded: the task of a run or recipe, or a file of rows."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from data.errors import ConfigError
from data.tasks.base import Split, Task
from data.tasks.dataset.task import Dataset
from data.tasks.problem import Problem, load_problems
from data.tasks.registry import build_task
from data.text.normalise import NormaliserName
from rewards.verifiers.base import VerifierParams
from rewards.verifiers.registry import from_shorthand
from rl.config.loading import load_recipe
from rl.config.recipe import NORMALISER_OF_VERIFIER
from rl.config.task import DatasetTask, TaskConfig, TaskSection
from rl.preflight.data_report import SUGGESTED
from rl.problems import make_problems
from rl.storage.run_directory import RunDirectory
from rollout.protocols import AnyParams

SPLIT: Split = "test"
"""Split of a file of rows whose rows are all asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exam:
    """Problems of one task, and how they are graded."""

    name: str
    """Source of the problems, in tables."""
    section: TaskSection
    """The task, and its verifier where it has one."""
    problems: tuple[Problem, ...]
    """Problems in the order in which they are asked."""
    protocol: AnyParams | None = None
    """How the recipe asks, for a target that does not say so itself."""

    @property
    def task(self) -> Task:
        """The task, which makes prompts of problems."""
        return build_task(self.section.params)

    @property
    def verifier(self) -> VerifierParams | None:
        """The task's verifier; None: its own check."""
        return self.section.verifier

    def normaliser(self, params: AnyParams) -> NormaliserName:
        """The form in which votes compare answers: the protocol's, or that of the verifier."""
        verifier = self.verifier
        usual = NORMALISER_OF_VERIFIER.get(verifier.name) if verifier is not None else None
        return params.answer.normalise or usual or "exact"


def of_run(path: Path, split: Split, most: int | None) -> Exam:
    """The problems of a run. Raises ConfigError when it is none, or was changed."""
    directory = RunDirectory(path)
    recipe = directory.recipe()
    saved = directory.problems(split)
    problems = load_problems(saved) if saved.exists() else _of(recipe.task, split)
    return _exam(f"{path.name}, {split}", recipe.task, problems, recipe.protocol, most)


def of_recipe(path: Path, overrides: list[str], split: Split, most: int | None) -> Exam:
    """The problems of a recipe's task. Raises ConfigError for an invalid recipe."""
    recipe = load_recipe(path, overrides)
    return _exam(f"{path.stem}, {split}", recipe.task, _of(recipe.task, split), recipe.protocol, most)


def of_rows(source: str, *, layout: str | None, verifier: str | None, most: int | None) -> Exam:
    """The rows of a file, all of them or the first. The verifier is the layout's usual one by default.

    Raises ConfigError when rows cannot be read, or nothing says how they are graded.
    """
    section = _section({"train": {"file": source}, "layout": layout, "order": "file"}, None)
    assert isinstance(section, DatasetTask)
    loaded = Dataset(section.params).load()["train"]
    name = verifier or SUGGESTED.get(loaded.layout)
    if name is None:
        raise ConfigError(
            f"{source}: nothing says how answers are graded\n  fix: add --verifier NAME (docs/verifiers.md)"
        )
    section = _section({"train": {"file": source}, "layout": layout, "order": "file"}, name)
    problems = [placed.problem for placed in loaded.problems]
    return _exam(Path(source).name, section, problems, None, most)


def _of(section: TaskConfig, split: Split) -> list[Problem]:
    if isinstance(section, DatasetTask):
        loaded = Dataset(section.params).load()
        if split not in loaded:
            raise ConfigError(f"task dataset: has no {split} split\n  fix: choose one of {', '.join(loaded)}")
        return [placed.problem for placed in loaded[split].problems]
    return make_problems(build_task(section.params), section, split)


def _section(params: dict[str, Any], verifier: str | None) -> TaskSection:
    adapter: TypeAdapter[TaskSection] = TypeAdapter(TaskConfig)
    try:
        return adapter.validate_json(
            json.dumps(
                {"name": "dataset", "params": params, "verifier": verifier and from_shorthand(verifier)}
            )
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(
            f"rows: {'.'.join(map(str, first['loc']))}: {first['msg']}\n  fix: see braid data --help"
        ) from error


def _exam(
    name: str, section: TaskSection, problems: list[Problem], protocol: AnyParams | None, most: int | None
) -> Exam:
    if not problems:
        raise ConfigError(f"{name}: holds no problems\n  fix: choose another split or file")
    return Exam(name=name, section=section, problems=tuple(problems[:most]), protocol=protocol)
