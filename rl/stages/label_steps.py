"""The stage that labels steps: by Monte Carlo, by what several labellings agree on, or by a file."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.errors import ConfigError
from data.steps.counts import count_steps, counts_table
from data.steps.formats.files import read_steps
from data.steps.step import StepKind
from data.whole_file import write_json
from rewards.score import Opinion
from rewards.verifiers.process import VerifierPool
from rewards.verifiers.verdict import Judge, Verdict
from rl.config.judges import judge_setting
from rl.config.labels import ConsensusLabels, FileLabels, JudgeLabels, MonteCarloLabels
from rl.config.stages import LabelStage
from rl.imitation.progress import ActivityLines
from rl.runtime.worker_pool import WorkerPool
from rl.scorers.completion_file import COMPLETIONS, Completed, CompletionFile
from rl.scorers.consensus import consensus, labelled_by_file
from rl.scorers.label_file import LABELS, LabelRow, read_labels, unlabelled_rows, write_labels
from rl.scorers.label_noise import noise, noise_table
from rl.seeds import purpose_seed
from rl.stages.complete_steps import Recorded, StepCompleter
from rl.stages.context import RunContext
from rl.stages.judge_steps import StepJudge
from rl.stages.recorded import drawn_episodes

NOISE = "noise.json"
"""Figures against the truth, in the stage's folder."""


async def run_label_steps(context: RunContext, stage: LabelStage) -> dict[str, Any]:
    """Labels the steps of recorded episodes; resumes with the steps that have no completions yet. -> content
    of done.json.

    Raises ConfigError when no step gets a label.
    """
    folder, spent = context.directory.stage(stage.name), dict[str, Any]()
    if isinstance(stage.by, ConsensusLabels):
        rows, shared = consensus([_labels_of(context, name) for name in stage.by.stages])
        note = f"{len(rows)} of {shared} calls are kept, in which all see the same first error"
        spent = {"kept": len(rows), "of": shared}
    else:
        recorded = _recorded(context, stage)
        if isinstance(stage.by, FileLabels):
            rows, note = _from_file(stage.by, recorded)
        else:
            rows, spent = await _by_completions(context, stage, stage.by, recorded)
            note = f"{spent['prefixes']} steps are completed: {spent['computed']} tokens are computed"
    if not any(row.is_labelled for row in rows):
        raise ConfigError(
            f"{stage.name}: no step has a label ({note})\n  fix: take other episodes, or another way (by)"
        )
    write_labels(folder / LABELS, rows)
    counts, found = count_steps([row.step_row for row in rows]), noise(rows)
    lines = [note, *counts_table(counts), *([] if found is None else noise_table(found))]
    print("\n".join(f"{stage.name}: {line}" for line in lines))
    if found is not None:
        write_json(folder / NOISE, found)
    labelled = counts.steps - counts.unlabelled
    return {
        "rows": counts.rows, "steps": counts.steps, "labelled": labelled, "cut_off": counts.cut_off, **spent,
    }  # fmt: skip


def _labels_of(context: RunContext, name: str) -> list[LabelRow]:
    return read_labels(context.directory.stage(name) / LABELS)


def _recorded(context: RunContext, stage: LabelStage) -> list[Recorded]:
    """The episodes with their rows, and whether their answers are right."""
    task, codec = context.task(stage), context.codec
    verifier = context.recipe.task_of(stage).verifier
    found: list[Recorded] = []
    with nullcontext() if verifier is None else VerifierPool(verifier) as pool:
        judge, activity = Judge(task, codec, pool), ActivityLines(stage.name, "reading episodes")
        episodes = drawn_episodes(context, stage, "label_steps")
        for number, (problem, episode) in enumerate(episodes):
            activity.update("cutting episodes into steps", number, len(episodes))
            activity.show_when_due()
            verdict = judge.judge(problem, episode).verdict
            right = None if verdict is None else verdict is Verdict.CORRECT
            rows = unlabelled_rows(task, problem, episode, codec, StepKind(stage.step))
            known = [replace(row, answer_correct=right) for row in rows]
            found.append(Recorded(problem=problem, episode=episode, rows=known))
    return found


def _from_file(by: FileLabels, recorded: Sequence[Recorded]) -> tuple[list[LabelRow], str]:
    _, given = read_steps(by.path)
    rows = [row for each in recorded for row in each.rows]
    found = labelled_by_file(rows, given)
    return found, f"{by.path} has labels for {len(found)} of {len(rows)} calls"


async def _by_completions(
    context: RunContext, stage: LabelStage, by: MonteCarloLabels | JudgeLabels, recorded: Sequence[Recorded]
) -> tuple[list[LabelRow], dict[str, Any]]:
    """-> (rows, tokens that it took)."""
    directory, verifier = context.directory, context.recipe.task_of(stage).verifier
    engines = await context.services.engines(stage)
    await engines.load(_weights(context, stage, by), 0)
    with (
        CompletionFile(directory.stage(stage.name) / COMPLETIONS) as file,
        nullcontext() if verifier is None else VerifierPool(verifier) as pool,
        _meta(context, by) as meta,
    ):
        common: dict[str, Any] = {
            "engines": engines,
            "task": context.task(stage),
            "judge": Judge(context.task(stage), context.codec, pool),
            "kind": StepKind(stage.step),
            "seed": purpose_seed(context.recipe.seed, stage.name),
            "activity": ActivityLines(stage.name, "starting engines"),
        }
        if isinstance(by, JudgeLabels):
            setting = judge_setting(context.recipe, stage, by)
            given: dict[str, Any] = {"setting": setting, "codec": context.codec, "meta": meta}
            completer: StepCompleter = StepJudge(by, file, **given, **common)
        else:
            completer = StepCompleter(by, file, protocol=context.recipe.protocol_of(stage), **common)
        rows = await completer.label(recorded)
        return rows, tokens_of(file.all())


@contextmanager
def _meta(context: RunContext, by: MonteCarloLabels | JudgeLabels) -> Iterator[WorkerPool[Opinion] | None]:
    """The scorers that choose among judgements, while they are needed; None where there are none."""
    name = by.meta if isinstance(by, JudgeLabels) else None
    scorers = None if name is None else context.services.scorers_of(name)
    try:
        yield scorers
    finally:
        if scorers is not None:
            scorers.close()


def _weights(context: RunContext, stage: LabelStage, by: MonteCarloLabels | JudgeLabels) -> Path:
    """Folder of the weights that complete or judge."""
    if isinstance(by, JudgeLabels) and by.path is not None:
        return by.path
    return context.directory.model(by.checkpoint or context.recipe.begins_with(stage))


def tokens_of(completed: Sequence[Completed]) -> dict[str, Any]:
    """How many steps were completed, and the tokens that engines read, had cached, sampled and computed."""
    names = ("prompt", "cached", "sampled", "computed")
    return {"prefixes": len(completed)} | {
        name: sum(getattr(each, name) for each in completed) for name in names
    }
