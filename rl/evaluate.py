"""`braid eval`: the evaluation of one stage of a run, outside its recipe."""

import asyncio
from pathlib import Path
from typing import Literal

from data.ledger.ledger import Ledger
from rl.config.stages import EvalStage
from rl.run import run_stages
from rl.runtime.placement import reserve
from rl.runtime.ray_session import Runtime
from rl.runtime.services import Factories, Services
from rl.stages.context import RunContext
from rl.storage.run_directory import trained_stage
from rl.tracking.accounting import Accounting
from rollout.protocols import default_params


def evaluate(
    run_dir: Path,
    checkpoint: str | None = None,
    samples: int = 1,
    split: Literal["validation", "test"] = "test",
    protocol: str | None = None,
    address: str | None = None,
) -> int:
    """Evaluate a finished stage with other samples, split or protocol. -> process exit code.

    Results go into RUN/stages/eval_*. Raises ConfigError for a directory that is no run and for a stage
    without weights.
    """
    recipe, directory, name = trained_stage(run_dir, checkpoint)
    params = recipe.protocol if protocol in (None, recipe.protocol.name) else default_params(protocol)
    stage = EvalStage(
        kind="eval",
        name=f"eval_{name}_{params.name}_{split}_{samples}",
        checkpoints=(name,),
        split=split,
        samples=samples,
        protocol=params,
        critical_budgets=next((s.critical_budgets for s in recipe.stages if isinstance(s, EvalStage)), ()),
    )
    with (
        directory.alone(),
        Accounting(directory) as accounting,
        Ledger.open(directory.ledger) as ledger,
        Runtime(directory.path, address=address, num_cpus=recipe.engine.num_engines) as runtime,
    ):
        placement = reserve(recipe, [stage], directory.path, own=address is None)
        services = Services(recipe, directory, placement, ledger, Factories())
        context = RunContext(recipe, directory, accounting, ledger, services)
        asyncio.run(run_stages(context, [stage], runtime))
    return 0
