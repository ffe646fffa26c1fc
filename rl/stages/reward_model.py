"""The reward model stage: labels recorded episodes, trains the ranks, measures on what was held out."""

import random
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import xxhash

from data.episodes.trajectory import Episode
from data.errors import ConfigError
from data.steps.step import StepKind
from data.tasks.labelled import StepLabelledTask
from data.tasks.problem import Problem
from data.whole_file import write_json
from rewards.verifiers.process import VerifierPool
from rewards.verifiers.verdict import Judge, Verdict
from rl.config.stages import RewardModelStage
from rl.imitation.progress import ActivityLines
from rl.imitation.recorded_episodes import read_records, record_files
from rl.scorers.held_out import HELD_OUT, lines, read_held_out, report
from rl.scorers.row_file import TargetRows, write_rows
from rl.scorers.target_rows import JudgedCall, outcome_call, step_calls
from rl.stages.context import RunContext
from rl.stages.sft import shown
from rl.stages.supervised import train_on_ranks

TARGETS = "targets.jsonl.gz"
"""File of the labelled calls, in the stage's folder; made once."""
REPORT = "held_out.json"


async def run_reward_model(context: RunContext, stage: RewardModelStage) -> dict[str, Any]:
    """Labels episodes, trains, measures; resumes from the last whole checkpoint. -> content of done.json.

    Raises ConfigError when no step has a label; else as `train_on_ranks`.
    """
    if not stage.keep_engines:
        await context.services.close_engines()
    folder = context.directory.stage(stage.name)
    rows = TargetRows(path=folder / TARGETS, codec=context.codec, seed=context.recipe.seed)
    if not rows.path.exists():
        _label(context, stage, rows)
    model = context.previous_model(stage) if stage.start is None else context.directory.model(stage.start)
    await train_on_ranks(context, stage, rows, model)
    found = report(list(read_held_out(folder / HELD_OUT)))
    write_json(folder / REPORT, found)
    print("\n".join(lines(stage.name, found)))
    return {"steps": stage.steps, "held_out": found}


def _label(context: RunContext, stage: RewardModelStage, rows: TargetRows) -> None:
    """Writes the labelled calls of the recorded episodes, with some problems held out."""
    episodes = _episodes(context, stage)
    random.Random(f"braid/reward_model/{context.recipe.seed}").shuffle(episodes)
    episodes = episodes[: stage.episodes]
    held_out = {
        problem.id
        for problem, _ in episodes
        if is_held_out(problem.id, stage.held_out_percent, context.recipe.seed)
    }
    task, codec = context.task(stage), context.codec
    verifier = context.recipe.task_of(stage).verifier
    calls: list[tuple[JudgedCall, bool]] = []
    with nullcontext() if verifier is None else VerifierPool(verifier) as pool:
        judge, activity = Judge(task, codec, pool), ActivityLines(stage.name, "labelling episodes")
        for number, (problem, episode) in enumerate(episodes):
            activity.update("labelling episodes", number, len(episodes))
            activity.show_when_due()
            if stage.target == "steps":
                assert isinstance(task, StepLabelledTask), "the cross-checks ask for it"
                found = step_calls(task, problem, episode, codec, StepKind(stage.step), stage.label)
            else:
                verdict = judge.judge(problem, episode).verdict
                found = [] if verdict is None else outcome_call(episode, correct=verdict is Verdict.CORRECT)
            calls += [(call, problem.id in held_out) for call in found]
    trained = [call for call, is_out in calls if not is_out]
    if not trained or len(trained) == len(calls):
        raise ConfigError(
            f"{stage.name}.source: of {len(episodes)} episodes {len(trained)} calls are left to train on and "
            f"{len(calls) - len(trained)} to measure with\n"
            "  fix: record more episodes, of more problems, or change held_out_percent"
        )
    write_rows(rows.path, calls)
    targets = [call.row.targets[place] for call in trained for place in call.places]
    print(
        f"{stage.name}: {len(targets)} targets of {len(trained)} calls, {sum(targets) / len(targets):.3f} "
        f"of them right; {len(calls) - len(trained)} calls of {len(held_out)} problems are held out"
    )


def _episodes(context: RunContext, stage: RewardModelStage) -> list[tuple[Problem, Episode]]:
    """Every recorded episode on a training problem of the stage, copies left out."""
    problems = {problem.id: problem for problem in context.problems(stage, "train")}
    protocol = context.recipe.protocol_of(stage).name
    found: list[tuple[Problem, Episode]] = []
    seen: set[tuple[object, ...]] = set()
    for episode in _read(context, stage, protocol):
        key = (episode.problem_id, tuple(call.output for call in episode.calls))
        if episode.problem_id in problems and key not in seen:
            seen.add(key)
            found.append((problems[episode.problem_id], episode))
    return found


def _read(context: RunContext, stage: RewardModelStage, protocol: str) -> Iterator[Episode]:
    files = record_files(stage.source, context.directory)
    for _, episode in shown(stage.name, read_records(files, protocol)):
        yield episode


def is_held_out(problem_id: str, percent: int, seed: int) -> bool:
    """Whether the episodes of a problem are for measuring; the same in every run of the seed."""
    return xxhash.xxh3_64_intdigest(f"held_out/{seed}/{problem_id}".encode()) % 100 < percent
