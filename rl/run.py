"""Running a recipe: its stages in order. Each can be resumed; a finished one is not repeated."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from rl.config import Recipe
from rl.config.fingerprint import Change
from rl.config.stages import StageConfig, TrainingStage
from rl.runtime.placement import reserve
from rl.runtime.ray_session import ClusterLost, Runtime
from rl.runtime.services import Factories, Services, report_fault
from rl.stages.context import RunContext, prepare
from rl.stages.evaluate import run_eval
from rl.stages.export import run_export
from rl.stages.label_steps import run_label_steps
from rl.stages.reinforce import run_rl
from rl.stages.reward_model import run_reward_model
from rl.stages.sft import run_sft
from rl.storage.files import storing
from rl.storage.run_directory import RunDirectory
from rl.tracking.accounting import Accounting

MOST_CLUSTERS = 10
"""Number of local clusters lost in a row, without a new checkpoint in between, that ends the run."""
_REAL = Factories()
_WATCH_S = 1.0
STAGES: dict[str, Callable[[RunContext, Any], Awaitable[dict[str, Any]]]] = {
    "sft": run_sft,
    "label_steps": run_label_steps,
    "reward_model": run_reward_model,
    "rl": run_rl,
    "eval": run_eval,
    "export": run_export,
}


def run(
    recipe: Recipe,
    run_dir: Path,
    address: str | None = None,
    *,
    changes: Sequence[Change] = (),
    factories: Factories = _REAL,
    training_only: bool = False,
) -> int:
    """Train from the state of the run directory. Returns the exit code.

    address: Ray cluster to join; None starts a local one. changes: accepted differences from the
    recipe that the run was started with, as `RunDirectory.open` returns them. factories: they start engines,
    learner and reward workers. training_only: leave out evaluation and export.
    """
    directory = RunDirectory(run_dir)
    pending = [stage for stage in recipe.stages if directory.done(stage.name) is None]
    if training_only:
        pending = [stage for stage in pending if isinstance(stage, TrainingStage)]
    if not pending:
        print(f"{run_dir}: all stages are finished; see {run_dir / 'summary.json'}")
        return 0
    with (
        storing(f"{directory.path}: files of the run"),
        directory.alone(),
        Accounting(directory) as accounting,
        directory.open_ledger() as ledger,
    ):
        for change in changes:
            report_fault(
                ledger, "run", "change", f"resumes with {change.key} = {change.now}, before {change.before}"
            )
        directory.accept(recipe)
        lost, saved = 0, directory.saved()
        while True:
            runtime = Runtime(directory.path, address=address, num_cpus=_processes(recipe))
            try:
                with runtime:
                    accounting.memory.command_part = runtime.session
                    placement = reserve(recipe, pending, directory.path, own=address is None)
                    prepare(recipe, directory, placement)
                    services = Services(recipe, directory, placement, ledger, factories)
                    context = RunContext(recipe, directory, accounting, ledger, services)
                    asyncio.run(run_stages(context, pending, runtime))
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
    """Number of processes that compute at once: engines' ranks and those of the largest training stage."""
    ranks = [stage.num_ranks for stage in recipe.training_stages()]
    return recipe.engine.num_engines * recipe.engine.tensor_parallel + max(ranks, default=1)


async def run_stages(context: RunContext, stages: Sequence[StageConfig], runtime: Runtime) -> None:
    """Run the stages in order, then end all services. Raises ClusterLost when the local cluster is lost."""
    current = asyncio.current_task()
    assert current is not None
    stopped = _cancel_on_signals(current)
    watching = asyncio.create_task(_cancel_when_lost(runtime, current))
    try:
        for index, stage in enumerate(stages):
            context.activity.show(stage.name, "starting")
            result = await STAGES[stage.kind](context, stage)
            context.directory.finish(stage.name, result)
            if not any(isinstance(later, TrainingStage) for later in stages[index + 1 :]):
                context.services.ranks.close()
    except asyncio.CancelledError:
        if runtime.lost is None:
            if signal.SIGINT in stopped:
                raise KeyboardInterrupt from None
            raise
        raise ClusterLost(f"Ray's {runtime.lost} died") from None
    finally:
        watching.cancel()
        await context.services.close(lost=runtime.lost is not None)


def _cancel_on_signals(work: "asyncio.Task[Any]") -> list[int]:
    """SIGINT (Ctrl-C) and SIGTERM cancel the work. Returns a list that gets the first signal.

    Further signals are ignored: engines are shut down and files closed meanwhile.
    """
    loop, numbers = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)
    came: list[int] = []

    def stop(number: int) -> None:
        came.append(number)
        for each in numbers:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_IGN)
        work.cancel()

    for number in numbers:
        loop.add_signal_handler(number, stop, number)
    return came


async def _cancel_when_lost(runtime: Runtime, work: "asyncio.Task[Any]") -> None:
    while runtime.lost is None:
        await asyncio.sleep(_WATCH_S)
    work.cancel()
