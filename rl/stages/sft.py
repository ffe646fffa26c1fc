"""The supervised stage: what it imitates, and the training of its ranks."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.episodes.trajectory import Episode
from data.episodes.wire import write_episodes
from data.whole_file import write_json
from rewards.verifiers.process import VerifierPool
from rewards.verifiers.verdict import Judge
from rl.config.stages import GoldSource, RecordedSource, SftStage
from rl.imitation.demonstrations import DemonstrationSource, GoldAnswers, RowSource
from rl.imitation.progress import ActivityLines
from rl.imitation.recorded_episodes import RecordedEpisodes, read_records, record_files, select
from rl.stages.context import RunContext
from rl.stages.supervised import train_on_ranks
from rl.storage.files import read_json
from rollout.protocols import ThinkingProtocol, build_protocol

CHOSEN = "imitated.json"
"""File with the decision on each recorded episode; written last."""


async def run_sft(context: RunContext, stage: SftStage) -> dict[str, Any]:
    """Trains the stage; resumes from its last whole checkpoint. -> content of done.json.

    Raises LearnerLost when ranks die one after the other, or the BraidError that a rank raised.
    """
    if not stage.keep_engines:
        await context.services.close_engines()
    await train_on_ranks(context, stage, row_source(context, stage), context.previous_model(stage))
    chosen = context.directory.stage(stage.name) / CHOSEN
    return {"steps": stage.steps} | ({"episodes": read_json(chosen)} if chosen.exists() else {})


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
    problems, max_length = context.problems(stage, "train"), context.recipe.model.max_length
    if isinstance(stage.source, GoldSource):
        count = stage.demonstrations or len(problems)
        return GoldAnswers(**common, problems=problems, max_length=max_length, count=count)
    assert stage.demonstrations is not None, "the cross-checks ask for it"
    count = stage.demonstrations
    return DemonstrationSource(**common, problems=problems, max_length=max_length, count=count)


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
            shown(stage.name, read_records(files, protocol.name)),
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


def shown(stage_name: str, records: Iterator[tuple[Path, Episode]]) -> Iterator[tuple[Path, Episode]]:
    """The records; shows on the screen how many have been read."""
    activity = ActivityLines(stage_name, "choosing recorded episodes")
    for number, record in enumerate(records, start=1):
        yield record
        activity.update("choosing recorded episodes", number)
        activity.show_when_due()
