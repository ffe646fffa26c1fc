"""`braid eval`: the evaluation of one stage of a run, outside its recipe."""

import asyncio
from pathlib import Path
from typing import Literal

import xxhash
from pydantic import ValidationError

from data.errors import ConfigError
from rl.config.recipe import Recipe
from rl.config.stages import MAX_STAGE_NAME, START, EvalStage
from rl.run import run_stages
from rl.runtime.placement import reserve
from rl.runtime.ray_session import Runtime
from rl.runtime.services import Factories, Services
from rl.stages.context import RunContext
from rl.storage.files import storing
from rl.storage.run_directory import RunDirectory, trained_stage
from rl.tracking.accounting import Accounting
from rollout.protocols import params_like


def evaluate(
    run_dir: Path,
    checkpoint: str | None = None,
    samples: int = 1,
    split: Literal["validation", "test"] = "test",
    protocol: str | None = None,
    address: str | None = None,
) -> int:
    """Evaluate a finished stage, or `start`, with other samples, split or protocol. Returns the exit code.

    Results go into RUN/stages/eval_*; a stopped evaluation resumes from the episodes it has. Raises
    ConfigError for a directory that is not a run and for a stage without weights.
    """
    recipe, directory, stage = evaluation_stage(run_dir, checkpoint, samples, split, protocol)
    num_cpus = recipe.engine.num_engines * recipe.engine.tensor_parallel
    with (
        storing(f"{directory.path}: files of the run"),
        directory.alone(),
        Accounting(directory) as accounting,
        directory.open_ledger() as ledger,
        Runtime(directory.path, address=address, num_cpus=num_cpus) as runtime,
    ):
        placement = reserve(recipe, [stage], directory.path, own=address is None)
        services = Services(recipe, directory, placement, ledger, Factories())
        context = RunContext(recipe, directory, accounting, ledger, services)
        asyncio.run(run_stages(context, [stage], runtime))
    return 0


def evaluation_stage(
    run_dir: Path,
    checkpoint: str | None,
    samples: int,
    split: Literal["validation", "test"],
    protocol: str | None,
) -> tuple[Recipe, RunDirectory, EvalStage]:
    """-> recipe and directory of a run, and the stage that `evaluate` makes of its arguments.

    Raises ConfigError for a directory that is not a run, a stage without weights, and impossible settings.
    """
    recipe, directory, name = trained_stage(run_dir, checkpoint)
    trained = None if name == START else recipe.stage(name)
    own = recipe.protocol if trained is None else recipe.protocol_of(trained)
    params = own if protocol is None else params_like(own, protocol)
    try:
        stage = EvalStage(
            kind="eval",
            name=_short(f"eval_{name}_{params.name}_{split}_{samples}"),
            task=None if trained is None else trained.task,
            checkpoints=(name,),
            split=split,
            samples=samples,
            protocol=params,
            critical_budgets=next(
                (s.critical_budgets for s in recipe.stages if isinstance(s, EvalStage)), ()
            ),
        )
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ConfigError(f"--{wrong['loc'][0]} {wrong['input']}: {wrong['msg']}") from None
    return recipe, directory, stage


def _short(stage_name: str) -> str:
    """The name itself, or, where it is too long for a stage, its beginning and a checksum."""
    if len(stage_name) <= MAX_STAGE_NAME:
        return stage_name
    digest = xxhash.xxh32_hexdigest(stage_name.encode())
    return f"{stage_name[: MAX_STAGE_NAME - len(digest) - 1]}_{digest}"
