"""`braid replay`: trains a stage again from the record alone and compares the weights with those of the run.

The record holds the input of every step: ids, log-probabilities and versions of all tokens, and rewards as
trained. So no engine and no reward is needed, and on a CPU every weight comes out equal, bit for bit.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from data.errors import ConfigError
from data.text.codec import load_codec
from rl.config import Recipe
from rl.config.model import ScratchModel
from rl.config.stages import RlStage, threads_of
from rl.learner.collectives import limit_threads
from rl.learner.implicit import IMPLICIT_FILE
from rl.learner.learner import Learner
from rl.learner.settings import settings_of
from rl.storage.implicit_version import ImplicitVersion
from rl.storage.rollout_record import RECORD, recorded_groups, recorded_implicit
from rl.storage.run_directory import RunDirectory, previous_model


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Replayed weights compared with those of the run."""

    step: int
    difference: float
    """Largest difference of any weight; 0 when all are equal bit for bit."""
    where: str
    """Name of the tensor with the largest difference."""
    other_scorer: int | None = None
    """First step whose tokens another implicit reward model scored than in the run; None without one."""

    @property
    def verdict(self) -> str:
        """What is said of the weights."""
        found = "weights equal bit for bit"
        if self.difference:
            found = f"weights differ by up to {self.difference:.2e} (in {self.where})"
        if self.other_scorer is not None:
            found += f"; the implicit reward model was another from step {self.other_scorer + 1} on"
        return found

    @property
    def same(self) -> bool:
        """Whether everything is equal bit for bit."""
        return not self.difference and self.other_scorer is None


def replay(run: Path, name: str | None = None) -> int:
    """Print a line for each checkpoint that still exists. Returns the exit code: 1 when a weight differs.

    Raises ConfigError for a run without a finished rl stage, or without the record of a step.
    """
    directory = RunDirectory(run)
    recipe = directory.recipe()
    stage = _stage(recipe, name)
    if directory.done(stage.name) is None:
        raise ConfigError(f"{run}: stage {stage.name!r} is not finished\n  fix: finish it with braid train")
    threads = threads_of(stage, scratch=isinstance(recipe.model, ScratchModel))
    limit_threads(threads, stage.num_ranks)
    same = True
    for found in replayed(recipe, directory, stage):
        same &= found.same
        print(f"{stage.name}, after step {found.step} of {stage.steps}: {found.verdict}", flush=True)
    if not same and stage.num_ranks > 1:
        print(f"{stage.name} was trained by {stage.num_ranks} ranks: differences are expected (sum order)")
    return 0 if same else 1


def replayed(recipe: Recipe, directory: RunDirectory, stage: RlStage) -> Iterator[Comparison]:
    """Train the stage again in one process; compare at each checkpoint of the run and at the end."""
    folder = directory.stage(stage.name)
    settings = settings_of(recipe, stage, load_codec(directory.start).size)
    learner = Learner(previous_model(recipe, directory, stage), settings)
    other: int | None = None
    for step in range(stage.steps):
        metrics = learner.step(step, recorded_groups(folder / RECORD, step))
        implicit = ImplicitVersion.of_metrics(metrics)
        if implicit is not None and implicit.recorded() != recorded_implicit(folder / RECORD, step):
            other = step if other is None else other
        kept = folder / f"step-{step + 1:06d}"
        if step + 1 == stage.steps:
            kept = directory.model(stage.name)
        if kept.is_dir():
            found = learner.weights()
            if learner.implicit is not None and (kept / IMPLICIT_FILE).exists():
                found |= learner.implicit.tensors()
            yield replace(_compare(found, kept, step + 1), other_scorer=other)


def _compare(found: dict[str, torch.Tensor], kept: Path, step: int) -> Comparison:
    expected = load_file(str(kept / "model.safetensors"))
    if (kept / IMPLICIT_FILE).exists():
        expected |= load_file(str(kept / IMPLICIT_FILE))
    assert found.keys() == expected.keys(), "another model"
    differences = {name: float((found[name] - expected[name]).abs().max()) for name in found}
    where = max(differences, key=lambda name: differences[name])
    return Comparison(step=step, difference=differences[where], where=where)


def _stage(recipe: Recipe, name: str | None) -> RlStage:
    stages = [stage for stage in recipe.stages if isinstance(stage, RlStage)]
    for stage in reversed(stages):
        if name in (None, stage.name):
            return stage
    known = ", ".join(stage.name for stage in stages) or "none"
    raise ConfigError(f"--stage {name}: the run has no such rl stage (it has: {known})")
