"""`braid replay`: trains a stage again from the record alone and compares the weights with those of the run.

The record holds the input of every step: ids, log-probabilities and versions of all tokens, and rewards as
trained. So no engine and no reward is needed, and on a CPU every weight comes out equal, bit for bit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from data.errors import ConfigError
from data.text.codec import load_codec
from rl.config import Recipe
from rl.config.model import ScratchModel
from rl.config.stages import RlStage, threads_of
from rl.learner.collectives import limit_threads
from rl.learner.learner import Learner
from rl.learner.settings import settings_of
from rl.storage.rollout_record import RECORD, recorded_groups
from rl.storage.run_directory import RunDirectory, previous_model


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Replayed weights compared with those of the run."""

    step: int
    difference: float
    """Largest difference of any weight; 0 when all are equal bit for bit."""
    where: str
    """Name of the tensor with the largest difference."""


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
    worst = 0.0
    for found in replayed(recipe, directory, stage):
        worst = max(worst, found.difference)
        verdict = "equal bit for bit"
        if found.difference:
            verdict = f"differ by up to {found.difference:.2e} (in {found.where})"
        print(f"{stage.name}, after step {found.step} of {stage.steps}: weights {verdict}", flush=True)
    if worst and stage.num_ranks > 1:
        print(f"{stage.name} was trained by {stage.num_ranks} ranks: differences are expected (sum order)")
    return 1 if worst else 0


def replayed(recipe: Recipe, directory: RunDirectory, stage: RlStage) -> Iterator[Comparison]:
    """Train the stage again in one process; compare at each checkpoint of the run and at the end."""
    folder = directory.stage(stage.name)
    settings = settings_of(recipe, stage, load_codec(directory.start).size)
    learner = Learner(previous_model(recipe, directory, stage), settings)
    for step in range(stage.steps):
        learner.step(step, recorded_groups(folder / RECORD, step))
        kept = folder / f"step-{step + 1:06d}"
        if step + 1 == stage.steps:
            kept = directory.model(stage.name)
        if kept.is_dir():
            yield _compare(learner.weights(), kept, step + 1)


def _compare(found: dict[str, torch.Tensor], kept: Path, step: int) -> Comparison:
    expected = load_file(str(kept / "model.safetensors"))
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
