"""The supervised stage: start the ranks, follow their progress, keep the final model."""

import asyncio
import shutil
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray.exceptions import RayActorError, RayTaskError

from data.episodes.trajectory import Episode
from data.episodes.wire import write_episodes
from data.errors import BraidError
from data.whole_file import write_json
from rewards.verifiers.process import VerifierPool
from rewards.verifiers.verdict import Judge
from rl.config.model import ScratchModel
from rl.config.stages import RecordedSource, SftStage, threads_of
from rl.imitation.demonstrations import DemonstrationSource, RowSource
from rl.imitation.job import SftRankJob
from rl.imitation.progress import PROGRESS, ActivityLines, ProgressReader
from rl.imitation.recorded_episodes import RecordedEpisodes, read_records, record_files, select
from rl.runtime.learner_group import LearnerLost
from rl.runtime.rank_pool import close_ranks
from rl.stages.context import RunContext
from rl.storage.checkpoints import newest_whole
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
"""Groups of ranks lost in a row, without a checkpoint in between, that end the stage."""
CHOSEN = "imitated.json"
"""File with the decision on each recorded episode; written last."""


async def run_sft(context: RunContext, stage: SftStage) -> dict[str, Any]:
    """Trains the stage; resumes from its last whole checkpoint. -> content of done.json.

    Raises LearnerLost when ranks die one after the other, or the BraidError that a rank raised.
    """
    if not stage.keep_engines:
        await context.services.close_engines()
    folder = context.directory.stage(stage.name)
    source = row_source(context, stage)
    lost, before = 0, None
    while True:
        checkpoint = newest_whole(
            folder / "checkpoints", lambda kind, what: context.report(stage.name, kind, what)
        )
        try:
            await _train(context, stage, source, checkpoint)
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
    chosen = folder / CHOSEN
    return {"steps": stage.steps} | ({"episodes": read_json(chosen)} if chosen.exists() else {})


async def _train(context: RunContext, stage: SftStage, source: RowSource, checkpoint: Path | None) -> None:
    """Until the last step. Raises RayActorError when a rank died, or the BraidError that a rank raised."""
    folder = context.directory.stage(stage.name)
    (folder / PROGRESS).unlink(missing_ok=True)
    ranks = context.services.ranks.acquire(stage.num_ranks)
    try:
        master = await ranks[0].address.remote()
        model_dir = context.previous_model(stage)
        runs = []
        for rank, actor in enumerate(ranks):
            job = SftRankJob(
                stage=stage,
                model_dir=model_dir,
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


async def _follow(context: RunContext, stage: SftStage, runs: Sequence[Any], resumed: int) -> None:
    """Write the metrics that rank 0 logs and show the ranks' activity, until all have ended."""
    reader = ProgressReader(context.directory.stage(stage.name) / PROGRESS)
    activity = ActivityLines(stage.name, "starting the trainer")
    with (
        # From the first line on, also after a resume: rank 0 repeats those of its checkpoint.
        MetricsWriter(context.directory.path, stage.name) as metrics,
        LiveSummary(stage.name, total=stage.steps, first=resumed, shown=SHOWN) as live,
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
            activity.show_when_due()
        await working


def row_source(context: RunContext, stage: SftStage) -> RowSource:
    """What the stage imitates: a function of recipe, seed and, for recorded episodes, the record."""
    protocol = build_protocol(context.recipe.protocol_of(stage), context.codec)
    common: dict[str, Any] = {
        "task": context.task(stage),
        "protocol": protocol,
        "codec": context.codec,
        "seed": context.recipe.seed,
        "pivot_weight": stage.pivot_weight,
        "match_tags": stage.match_tags,
    }
    if isinstance(stage.source, RecordedSource):
        return RecordedEpisodes(**common, path=chosen_episodes(context, stage, stage.source, protocol))
    assert stage.demonstrations is not None, "the cross-checks ask for it"
    return DemonstrationSource(
        **common,
        problems=context.problems(stage, "train"),
        max_length=context.recipe.model.max_length,
        count=stage.demonstrations,
    )


def chosen_episodes(
    context: RunContext, stage: SftStage, source: RecordedSource, protocol: ThinkingProtocol
) -> Path:
    """The recorded episodes that the stage imitates, in their own file; chosen once, also for a resume.

    Raises ConfigError when there are none, or a record cannot be used.
    """
    folder = context.directory.stage(stage.name)
    path = folder / "imitated.episodes.jsonl.gz"
    if (folder / CHOSEN).exists():
        return path
    files = record_files(source, context.directory)
    verifier = context.recipe.task_of(stage).verifier
    with nullcontext() if verifier is None else VerifierPool(verifier) as pool:
        chosen, counts = select(
            _shown(stage.name, read_records(files, protocol.name)),
            source,
            task=context.task(stage),
            protocol=protocol,
            problems={problem.id: problem for problem in context.problems(stage, "train")},
            judge=Judge(context.task(stage), context.codec, pool),
            most=stage.demonstrations,
            seed=context.recipe.seed,
        )
    write_episodes(path, chosen)
    write_json(folder / CHOSEN, asdict(counts))
    print(f"{stage.name}: {counts}")
    return path


def _shown(stage_name: str, records: Iterator[tuple[Path, Episode]]) -> Iterator[tuple[Path, Episode]]:
    """The records; shows on the screen how many have been read."""
    activity = ActivityLines(stage_name, "choosing recorded episodes")
    for number, record in enumerate(records, start=1):
        yield record
        activity.update("choosing recorded episodes", number)
        activity.show_when_due()
