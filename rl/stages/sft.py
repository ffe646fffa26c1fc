"""The supervised stage: start the ranks, follow their progress, keep the final model."""

import asyncio
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray.exceptions import RayActorError

from data.episodes.wire import write_episodes
from data.whole_file import write_json
from rl.config.stages import RecordedSource, SftStage
from rl.imitation.demonstrations import DemonstrationSource, RowSource
from rl.imitation.job import PROGRESS, SftRankJob
from rl.imitation.recorded_episodes import RecordedEpisodes, read_records, record_files, select
from rl.runtime.rank_pool import close_ranks
from rl.stages.context import RunContext, copy_tokenizer
from rl.storage.files import read_json
from rl.tracking.metrics import MetricsWriter
from rl.tracking.terminal import LiveSummary, Shown
from rollout.protocols import ThinkingProtocol, build_protocol

SHOWN = (
    Shown(key="loss", label="loss", form=".4f"),
    Shown(key="gradient_norm", label="gradient norm", form=".2f"),
)
_POLL_S = 1.0
MOST_TRAINERS = 3
"""Lost in a row, without a checkpoint between them."""
CHOSEN = "imitated.json"
"""What became of each recorded episode; written last."""


async def run_sft(context: RunContext, stage: SftStage) -> dict[str, Any]:
    """Trains the stage; resumes from its last checkpoint. -> what done.json keeps."""
    if not stage.keep_engines:
        await context.services.close_engines()
    folder = context.directory.stage(stage.name)
    source = row_source(context, stage)
    lost = 0
    while True:
        resumed = last_checkpoint_step(folder / "checkpoints")
        try:
            await _train(context, stage, source, resumed)
            break
        except RayActorError:
            lost = lost + 1 if last_checkpoint_step(folder / "checkpoints") == resumed else 1
            if lost >= MOST_TRAINERS:
                raise
            context.report(stage.name, "learner", "a rank died; all begin again at the last checkpoint")
    copy_tokenizer(context.directory, context.directory.model(stage.name))
    # The trainer's checkpoints are pickled; a finished stage needs them no more.
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    (folder / PROGRESS).unlink(missing_ok=True)  # a few steps make no log line
    chosen = folder / CHOSEN
    return {"steps": stage.steps} | ({"episodes": read_json(chosen)} if chosen.exists() else {})


async def _train(context: RunContext, stage: SftStage, source: RowSource, resumed: int) -> None:
    """Until the last step. Raises RayActorError when a rank died."""
    folder = context.directory.stage(stage.name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PROGRESS).unlink(missing_ok=True)
    ranks = context.services.ranks.acquire(stage.num_ranks)
    try:
        master = await ranks[0].address.remote()
        runs = []
        for rank, actor in enumerate(ranks):
            job = SftRankJob(
                stage=stage,
                model_dir=context.previous_model(stage),
                output_dir=folder,
                seed=context.recipe.seed,
                rank=rank,
                world=stage.num_ranks,
                master=master,
            )
            runs.append(actor.train.remote(job, source))
        await _follow(context, stage, runs, resumed)
    except BaseException:
        close_ranks(ranks)
        raise
    context.services.ranks.release(ranks)


async def _follow(context: RunContext, stage: SftStage, runs: Sequence[Any], resumed: int) -> None:
    """Writes and shows what the first rank logs, until all have ended."""
    path, seen = context.directory.stage(stage.name) / PROGRESS, 0
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
            for line in _progress(path)[seen:]:
                seen += 1
                step = int(line.pop("step"))
                metrics.write(step, line)
                if step > resumed:
                    live.update(step, line)
            if finished:
                await working
                break


def _progress(path: Path) -> list[dict[str, float]]:
    """The whole lines so far."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


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


def row_source(context: RunContext, stage: SftStage) -> RowSource:
    """What the stage imitates: a function of recipe, seed and, for recorded episodes, the record."""
    task, codec, seed = context.task(stage), context.codec, context.recipe.seed
    protocol = build_protocol(context.recipe.protocol_of(stage), codec)
    if isinstance(stage.source, RecordedSource):
        return RecordedEpisodes(
            task=task,
            protocol=protocol,
            codec=codec,
            seed=seed,
            pivot_weight=stage.pivot_weight,
            match_tags=stage.match_tags,
            path=chosen_episodes(context, stage, stage.source, protocol),
        )
    assert stage.demonstrations is not None, "the cross-checks ask for it"
    return DemonstrationSource(
        task=task,
        protocol=protocol,
        codec=codec,
        seed=seed,
        pivot_weight=stage.pivot_weight,
        match_tags=stage.match_tags,
        problems=context.problems(stage, "train"),
        max_length=context.recipe.model.max_length,
        count=stage.demonstrations,
    )


def chosen_episodes(
    context: RunContext, stage: SftStage, source: RecordedSource, protocol: ThinkingProtocol
) -> Path:
    """The recorded episodes that the stage imitates, in a file of their own; chosen once, also for a resume.

    Raises ConfigError when there are none, or a record cannot be used.
    """
    folder = context.directory.stage(stage.name)
    path = folder / "imitated.episodes.jsonl.gz"
    if (folder / CHOSEN).exists():
        return path
    records = read_records(record_files(source, context.directory), protocol.name)
    chosen, counts = select(
        records,
        source,
        task=context.task(stage),
        protocol=protocol,
        problems={problem.id: problem for problem in context.problems(stage, "train")},
        codec=context.codec,
        most=stage.demonstrations,
        seed=context.recipe.seed,
    )
    write_episodes(path, chosen)
    write_json(folder / CHOSEN, asdict(counts))
    print(f"{stage.name}: {counts}")
    return path
