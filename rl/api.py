"""Braid from Python: the calls that stay. docs/python.md has an example of each.

load      a model that thinks, without Ray      -> Thinker
train     a recipe, or the rest of it           -> Run
evaluate  a stage of a run                      -> outcomes
read      a run's metrics, episodes and tokens  -> Run
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from data.errors import BraidError, ConfigError
from rl.library.run_reader import RecordedEpisode, Run, StepMetrics, Token
from rollout.thread_events import Begun, Closed, Ended, Joined, Opened, Restarted, Said, ThreadEvent

if TYPE_CHECKING:
    from rl.evaluation.outcomes import Outcome
    from rl.library.thinking import Thinker
    from rollout.protocols import AnyParams

__all__ = [
    "Begun", "BraidError", "Closed", "ConfigError", "Ended", "Joined", "Opened", "RecordedEpisode",
    "Restarted", "Run", "Said", "StepMetrics", "ThreadEvent", "Token",
    "evaluate", "load", "read", "train",
]  # fmt: skip


def load(directory: Path | str, *, protocol: "AnyParams | None" = None) -> "Thinker":
    """Start an engine with an export, or with the last stage of a run; close it, or use it in a `with`.

    protocol: by default the one that the model was trained for.

    Raises ConfigError for a directory without model or protocol, EngineError when the engine does not start.
    """
    from rl.library.thinking import Thinker

    return Thinker(directory, protocol=protocol)


def read(run: Path | str) -> Run:
    """A run directory, for reading. Raises ConfigError for a directory that is not a run."""
    return Run(run)


def train(recipe: Path | str, run: Path | str, *, overrides: Sequence[str] = ()) -> Run:
    """Run all stages of a recipe, or those that are left of the run. `overrides`: as `--set`, "rl.steps=20".

    Raises ConfigError for a recipe that cannot work here, and the BraidError that ended a stage.
    """
    from rl.config import load_recipe
    from rl.preflight.check import ensure_runnable
    from rl.preflight.precision import with_precision
    from rl.run import run as run_recipe
    from rl.runtime.environment import set_driver_environment
    from rl.storage.run_directory import RunDirectory

    set_driver_environment()
    loaded = with_precision(load_recipe(Path(recipe), list(overrides)))
    ensure_runnable(loaded, remote=False)
    path = Path(run).absolute()
    changes = RunDirectory(path).open(loaded)
    run_recipe(loaded, path, None, changes=changes)
    return Run(path)


def evaluate(
    run: Path | str,
    checkpoint: str | None = None,
    *,
    samples: int = 1,
    split: Literal["validation", "test"] = "test",
    protocol: str | None = None,
) -> "list[Outcome]":
    """Evaluate a stage of a run, by default the last, and keep the results in the run. -> one outcome for
    each episode, by problem and sample. What was evaluated before is not sampled again.

    Raises ConfigError for a directory that is not a run and for a stage without weights.
    """
    from rl.evaluate import evaluate as evaluate_run
    from rl.evaluate import evaluation_stage
    from rl.evaluation.gather import outcomes_path
    from rl.evaluation.outcome_file import load_outcomes
    from rl.runtime.environment import set_driver_environment

    set_driver_environment()
    path = Path(run).absolute()
    _, directory, stage = evaluation_stage(path, checkpoint, samples, split, protocol)
    evaluate_run(path, checkpoint, samples=samples, split=split, protocol=protocol)
    return load_outcomes(outcomes_path(directory, stage.name, stage.checkpoints[0], "sampled"))
