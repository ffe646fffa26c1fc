"""Ranks of a supervised stage: started, followed, and started again when one dies."""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray.exceptions import RayActorError, RayTaskError

from data.errors import BraidError
from rl.config.model import ScratchModel
from rl.config.stages import SupervisedStage, threads_of
from rl.imitation.demonstrations import RowSource
from rl.imitation.job import SupervisedJob
from rl.imitation.progress import PROGRESS, ActivityLines, ProgressReader
from rl.runtime.learner_group import LearnerLost
from rl.runtime.rank_pool import close_ranks
from rl.scorers.pair_file import PairRows
from rl.scorers.row_file import TargetRows
from rl.stages.context import RunContext
from rl.storage.checkpoints import newest_whole
from rl.storage.files import read_json
from rl.tracking.metrics import MetricsWriter
from rl.tracking.terminal import SUPERVISED_SHOWN, LiveSummary

Source = RowSource | TargetRows | PairRows
"""What the ranks of a stage train on."""
_POLL_S = 1.0
MOST_TRAINERS = 3
"""Groups of ranks lost in a row, without a checkpoint in between, that end the stage."""


async def train_on_ranks(context: RunContext, stage: SupervisedStage, source: Source, model: Path) -> None:
    """Trains from the weights in `model`, or from the last whole checkpoint, to the final weights.

    Raises LearnerLost when ranks die one after the other, or the BraidError that a rank raised.
    """
    folder = context.directory.stage(stage.name)
    lost, before = 0, None
    while True:
        checkpoint = newest_whole(
            folder / "checkpoints", lambda kind, what: context.report(stage.name, kind, what)
        )
        try:
            await _train(context, stage, source, model, checkpoint)
            break
        except RayActorError as error:
            lost = lost + 1 if checkpoint == before else 1
            before = checkpoint
            if lost >= MOST_TRAINERS:
                raise LearnerLost(
                    f"{stage.name}: a rank died {lost} times without a checkpoint in between "
                    f"({str(error).strip().splitlines()[0]})\n"
                    "  fix: see Ray's session folder for the reason, such as too little memory; "
                    "the same command resumes at the last checkpoint"
                ) from error
            context.report(stage.name, "learner", "a rank died; all ranks start again at the last checkpoint")
    context.directory.complete_model(stage.name)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    (folder / PROGRESS).unlink(missing_ok=True)


async def _train(
    context: RunContext, stage: SupervisedStage, source: Source, model: Path, checkpoint: Path | None
) -> None:
    """Until the last step. Raises RayActorError when a rank died, or the BraidError that a rank raised."""
    folder = context.directory.stage(stage.name)
    (folder / PROGRESS).unlink(missing_ok=True)
    ranks = context.services.ranks.acquire(stage.num_ranks)
    try:
        master = await ranks[0].address.remote()
        runs = []
        for rank, actor in enumerate(ranks):
            job = SupervisedJob(
                stage=stage,
                model_dir=model,
                output_dir=folder,
                checkpoint=checkpoint,
                seed=context.recipe.seed,
                rank=rank,
                world=stage.num_ranks,
                master=master,
                threads=threads_of(stage, scratch=isinstance(context.recipe.model, ScratchModel)),
            )
            runs.append(actor.train.remote(job, source))
        await _follow(context, stage, runs, _step_of(checkpoint))
    except RayTaskError as error:
        close_ranks(ranks)
        # Ray's own text holds a traceback.
        raise (error.cause if isinstance(error.cause, BraidError) else error) from None
    except BaseException:
        close_ranks(ranks)
        raise
    context.services.ranks.release(ranks)


def _step_of(checkpoint: Path | None) -> int:
    return 0 if checkpoint is None else int(read_json(checkpoint / "trainer_state.json")["global_step"])


async def _follow(context: RunContext, stage: SupervisedStage, runs: Sequence[Any], resumed: int) -> None:
    """Write the metrics that rank 0 logs and show the ranks' activity, until all have ended."""
    reader = ProgressReader(context.directory.stage(stage.name) / PROGRESS)
    activity = ActivityLines(stage.name, "starting the trainer")
    with (
        # From the first line on, also after a resume: rank 0 repeats those of its checkpoint.
        MetricsWriter(context.directory.path, stage.name, trackers=context.trackers(stage)) as metrics,
        LiveSummary(stage.name, total=stage.steps, first=resumed, shown=SUPERVISED_SHOWN) as live,
    ):
        working = asyncio.gather(*runs)
        # Retrieve the exception: asyncio prints a traceback when an interruption ends the task.
        working.add_done_callback(lambda future: future.cancelled() or future.exception())
        shown, finished = resumed, False
        last: tuple[int, dict[str, Any]] | None = None
        while not finished:
            finished = bool((await asyncio.wait([working], timeout=_POLL_S))[0])
            for line in reader.new():
                if "doing" in line:
                    activity.update(line["doing"], line["done"], line["total"])
                    continue
                if "note" in line:
                    context.report(stage.name, "demonstrations", line["note"])
                    continue
                step = int(line.pop("step"))
                metrics.write(step, line)
                if step > shown:
                    last = step, line
                if step > resumed and line["skipped_updates"]:
                    context.report(
                        stage.name, "learner", f"update {step}: loss or gradient is not finite; it is skipped"
                    )
            if last and (activity.is_due or shown == resumed or last[0] == stage.steps or live.interactive):
                live.update(*last)
                activity.shown()
                shown, last = last[0], None
            context.activity.show(stage.name, activity.text)
            activity.show_when_due()
        await working
