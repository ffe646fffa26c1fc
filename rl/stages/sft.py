"""The supervised stage: start the ranks, follow their progress, keep the final model."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

from rl.config.stages import SftStage
from rl.demonstrations import DemonstrationSource
from rl.live import LiveSummary, Shown
from rl.metrics import MetricsWriter
from rl.sft_job import SftJob
from rl.stages.context import RunContext, copy_tokenizer
from rl.workers import SftActor
from rollout.protocols import build_protocol

SHOWN = (
    Shown(key="loss", label="loss", form=".4f"),
    Shown(key="gradient_norm", label="gradient norm", form=".2f"),
)
_POLL_S = 1.0


async def run_sft(context: RunContext, stage: SftStage) -> dict[str, Any]:
    """Trains the stage; resumes from its last checkpoint. -> what done.json keeps."""
    # An engine would hold memory and a core that the ranks can use.
    await context.stop_fleet()
    folder = context.directory.stage(stage.name)
    resumed = last_checkpoint_step(folder / "checkpoints")
    source = demonstration_source(context, stage)
    ranks = [SftActor.options(num_cpus=1, max_concurrency=4).remote() for _ in range(stage.num_ranks)]
    master = await ranks[0].address.remote()
    runs = []
    for rank, actor in enumerate(ranks):
        job = SftJob(
            stage=stage,
            model_dir=context.previous_model(stage),
            output_dir=folder,
            seed=context.recipe.seed,
            rank=rank,
            world=stage.num_ranks,
            master=master,
        )
        runs.append(actor.train.remote(job, source))
    seen = 0
    with (
        # From the first line on, also after a resume: the ranks tell those of their checkpoint again.
        MetricsWriter(context.directory.path, stage.name) as metrics,
        LiveSummary(stage.name, total=stage.steps, first=resumed, shown=SHOWN) as live,
    ):
        working = asyncio.gather(*runs)
        # Read, or asyncio prints a traceback for what an interruption ends.
        working.add_done_callback(lambda future: future.cancelled() or future.exception())
        while True:
            finished, _ = await asyncio.wait([working], timeout=_POLL_S)
            for line in await ranks[0].progress.remote(seen):
                seen += 1
                step = int(line.pop("step"))
                metrics.write(step, line)
                if step > resumed:
                    live.update(step, line)
            if finished:
                await working
                break
    copy_tokenizer(context.directory, context.directory.model(stage.name))
    # The trainer's checkpoints are pickled; a finished stage needs them no more.
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return {"steps": stage.steps}


def last_checkpoint_step(folder: Path) -> int:
    """Step of the newest whole checkpoint, 0 without one. What a kill cut short is removed: the trainer
    resumes from the newest folder, whatever is in it.
    """
    steps = [0]
    for path in folder.glob("checkpoint-*"):
        # Written last.
        if (path / "trainer_state.json").exists():
            steps.append(int(path.name.rsplit("-", 1)[1]))
        else:
            shutil.rmtree(path)
    return max(steps)


def demonstration_source(context: RunContext, stage: SftStage) -> DemonstrationSource:
    """The stage's demonstrations, a function of recipe and seed."""
    params = context.recipe.protocol_of(stage)
    return DemonstrationSource(
        task=context.task(stage),
        protocol=build_protocol(params, context.codec),
        codec=context.codec,
        problems=context.problems(stage, "train"),
        max_length=context.recipe.model.max_length,
        seed=context.recipe.seed,
        pivot_weight=stage.pivot_weight,
    )
