"""A run from recipe to export: the stages in order, each resumable, a finished one never redone."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from data.errors import ConfigError
from data.ledger.ledger import Ledger
from rl.config import Recipe
from rl.config.stages import EvalStage, ExportStage, RlStage, SftStage, StageConfig
from rl.runtime.placement import reserve
from rl.runtime.ray_session import ClusterLost, Runtime
from rl.simulation.simulated import Simulated
from rl.stages.context import RunContext, prepare, report_fault
from rl.stages.evaluate import run_eval
from rl.stages.export import export_from_run, run_export
from rl.stages.reinforce import run_rl
from rl.stages.sft import run_sft
from rl.storage.run_directory import START, RunDirectory
from rl.tracking.accounting import Accounting
from rollout.protocols import default_params

MOST_CLUSTERS = 10
"""Lost in a row, without a checkpoint between them: each goes on from the last one."""
_WATCH_S = 1.0
STAGES: dict[str, Callable[[RunContext, Any], Awaitable[dict[str, Any]]]] = {
    "sft": run_sft,
    "rl": run_rl,
    "eval": run_eval,
    "export": run_export,
}


def run(recipe: Recipe, run_dir: Path, address: str | None = None, simulated: Simulated | None = None) -> int:
    """Train, from the start or from where the run directory stands. -> process exit code.

    `simulated`: the side of the rl stages that is replaced by recorded times.
    """
    directory = RunDirectory(run_dir)
    pending = [stage for stage in recipe.stages if directory.done(stage.name) is None]
    if simulated is not None:
        # What a simulated side has not learned, or not sampled, is not worth a figure.
        pending = [stage for stage in pending if isinstance(stage, SftStage | RlStage)]
    if not pending:
        print(f"{run_dir}: all stages are finished; see {run_dir / 'summary.json'}")
        return 0
    with (
        directory.alone(),
        Accounting(directory) as accounting,
        Ledger.open(directory.ledger) as ledger,
    ):
        lost, saved = 0, directory.saved()
        while True:
            runtime = Runtime(directory.path, address=address, num_cpus=_processes(recipe))
            try:
                with runtime:
                    accounting.memory.command_part = runtime.session
                    placement = reserve(recipe, pending, directory.path, own=address is None)
                    prepare(recipe, directory, placement)
                    context = RunContext(recipe, directory, accounting, ledger, placement, simulated)
                    asyncio.run(_run_stages(context, pending, runtime))
                break
            except ClusterLost as error:
                now = directory.saved()
                lost, saved = (lost + 1 if now <= saved else 1), now
                if lost == MOST_CLUSTERS:
                    raise
                report_fault(ledger, "run", "node", f"{error}; another cluster is started")
            pending = [stage for stage in pending if directory.done(stage.name) is None]
    return 0


def _processes(recipe: Recipe) -> int:
    """That compute at once: engines and the ranks of the largest training stage."""
    ranks = [stage.num_ranks for stage in recipe.stages if isinstance(stage, SftStage | RlStage)]
    return recipe.engine.num_engines + max(ranks, default=1)


async def _run_stages(context: RunContext, stages: Sequence[StageConfig], runtime: Runtime) -> None:
    # SIGTERM stops as Ctrl-C does: engines are shut down, nothing is half-written.
    current = asyncio.current_task()
    assert current is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, current.cancel)
    watching = asyncio.create_task(_cancel_when_lost(runtime, current))
    try:
        for place, stage in enumerate(stages):
            result = await STAGES[stage.kind](context, stage)
            context.directory.finish(stage.name, result)
            if not any(isinstance(later, SftStage | RlStage) for later in stages[place + 1 :]):
                context.ranks.close()
    except asyncio.CancelledError:
        if runtime.lost is None:
            raise
        raise ClusterLost(f"Ray's {runtime.lost} died") from None
    finally:
        watching.cancel()
        await context.stop_engines(lost=runtime.lost is not None)
        if runtime.lost is None:
            context.close_reward_pool()
            context.ranks.close()


async def _cancel_when_lost(runtime: Runtime, work: "asyncio.Task[Any]") -> None:
    while runtime.lost is None:
        await asyncio.sleep(_WATCH_S)
    work.cancel()


def evaluate(
    run_dir: Path,
    checkpoint: str | None = None,
    samples: int = 1,
    split: Literal["validation", "test"] = "test",
    protocol: str | None = None,
    address: str | None = None,
) -> int:
    """Evaluate a finished stage again, with other samples, split or protocol, into RUN/stages/eval_*.

    Raises ConfigError for a directory that is no run, or a stage that has no weights yet.
    """
    recipe, directory, name = _finished(run_dir, checkpoint)
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
        context = RunContext(recipe, directory, accounting, ledger, placement)
        asyncio.run(_run_stages(context, [stage], runtime))
    return 0


def export(run_dir: Path, checkpoint: str | None, output: Path) -> int:
    """Export a finished stage of a run to any directory. -> process exit code.

    Raises ConfigError for a directory that is no run, a stage without weights, or an output that is
    something else.
    """
    recipe, directory, name = _finished(run_dir, checkpoint)
    export_from_run(
        recipe, directory, ExportStage(kind="export", name="export", checkpoint=name), output.absolute()
    )
    print(f"exported {name} to {output}")
    return 0


def _finished(run_dir: Path, checkpoint: str | None) -> tuple[Recipe, RunDirectory, str]:
    """Recipe, directory and name of a stage with weights, or `start`; the last trained stage unless named."""
    directory = RunDirectory(run_dir)
    recipe = directory.recipe()
    names = [START, *(stage.name for stage in recipe.trained_stages())]
    name = checkpoint or names[-1]
    if name not in names:
        raise ConfigError(
            f"--checkpoint {name}: {run_dir} has no such trained stage; there are {', '.join(names)}"
        )
    directory.model(name)
    return recipe, directory, name
