"""The reward model stage: labels recorded episodes or pairs answers, trains the ranks, measures on what was
held out.
"""

import random
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import xxhash

from data.errors import ConfigError
from data.steps.step import StepKind
from data.tasks.labelled import StepLabelledTask
from data.whole_file import write_json
from rewards.verifiers.process import VerifierPool
from rewards.verifiers.verdict import Judge, Verdict
from rl.config.outcome_loss import BradleyTerryLoss
from rl.config.stages import RewardModelStage
from rl.imitation.progress import ActivityLines
from rl.scorers.held_out import HELD_OUT, lines, read_held_out, report
from rl.scorers.label_file import LABELS, read_labels
from rl.scorers.pair_file import PairRows, write_pairs
from rl.scorers.pairs import Pair, pairs_of
from rl.scorers.preference_file import preference_pairs, read_preferences
from rl.scorers.row_file import TargetRows, write_rows
from rl.scorers.target_rows import JudgedCall, outcome_call, step_calls
from rl.stages.context import RunContext
from rl.stages.recorded import drawn_episodes
from rl.stages.supervised import train_on_ranks

TARGETS = "targets.jsonl.gz"
"""File of the labelled calls, in the stage's folder; made once."""
PAIRS = "pairs.jsonl.gz"
"""File of the pairs among them, where the loss compares."""
REPORT = "held_out.json"


async def run_reward_model(context: RunContext, stage: RewardModelStage) -> dict[str, Any]:
    """Labels episodes, trains, measures; resumes from the last whole checkpoint. -> content of done.json.

    Raises ConfigError when no step has a label; else as `train_on_ranks`.
    """
    if not stage.keep_engines:
        await context.services.close_engines()
    folder = context.directory.stage(stage.name)
    rows = TargetRows(path=folder / TARGETS, codec=context.codec, seed=context.recipe.seed)
    pairs = PairRows(path=folder / PAIRS, calls=rows) if isinstance(stage.loss, BradleyTerryLoss) else None
    if not rows.path.exists():
        label_calls(context, stage, rows, pairs)
    await train_on_ranks(context, stage, pairs or rows, context.previous_model(stage))
    found = report(list(read_held_out(folder / HELD_OUT)))
    write_json(folder / REPORT, found)
    print("\n".join(lines(stage.name, found)))
    return {"steps": stage.steps, "held_out": found}


def label_calls(
    context: RunContext, stage: RewardModelStage, rows: TargetRows, pairs: PairRows | None
) -> None:
    """Writes the labelled calls and, before them, the pairs among them, with some problems held out."""
    given: list[Pair] | None = None
    if stage.preferences:
        given, found = _preferred(context, stage)
    else:
        found = _exact(context, stage) if stage.labels is None else _learned(context, stage.labels)
    percent, seed = stage.held_out_percent, context.recipe.seed
    calls = [(call, is_held_out(call.problem_id, percent, seed)) for call in found]
    trained = [call for call, is_out in calls if not is_out]
    if not trained or len(trained) == len(calls):
        raise _too_few(stage, f"{len(trained)} labelled calls", f"{len(calls) - len(trained)}")
    if pairs is not None:
        assert isinstance(stage.loss, BradleyTerryLoss)
        if given is None:
            most, margin = stage.loss.pairs_per_problem, stage.loss.margin
            given = pairs_of(found, most=most, margin=margin, seed=seed)
        _write_pairs(stage, pairs, [(pair, is_held_out(pair.problem, percent, seed)) for pair in given])
    write_rows(rows.path, calls)
    held_out = {call.problem_id for call, is_out in calls if is_out}
    targets = [call.row.targets[place] for call in trained for place in call.places]
    print(
        f"{stage.name}: {len(targets)} targets of {len(trained)} calls, {sum(targets) / len(targets):.3f} "
        f"of them right; {len(calls) - len(trained)} calls of {len(held_out)} problems are held out"
    )


def _write_pairs(stage: RewardModelStage, rows: PairRows, pairs: Sequence[tuple[Pair, bool]]) -> None:
    trained = [pair for pair, is_out in pairs if not is_out]
    if not trained:
        raise _too_few(stage, "no pairs of a right and a wrong answer to one problem", f"{len(pairs)}")
    write_pairs(rows.path, pairs)
    problems = len({pair.problem for pair in trained})
    print(f"{stage.name}: {len(trained)} pairs of {problems} problems; {len(pairs) - len(trained)} held out")


def _too_few(stage: RewardModelStage, what: str, others: str) -> ConfigError:
    key = "preferences" if stage.preferences else "source" if stage.labels is None else "labels"
    return ConfigError(
        f"{stage.name}.{key}: {what} are left to train on and {others} to measure with\n"
        "  fix: record more episodes, of more problems, or change held_out_percent"
    )


def _preferred(context: RunContext, stage: RewardModelStage) -> tuple[list[Pair], list[JudgedCall]]:
    """The pairs of the files, and their calls, each once; what the model cannot read is left out."""
    margin = stage.loss.margin if isinstance(stage.loss, BradleyTerryLoss) else 0.0
    rows = read_preferences(stage.preferences)
    made = list(preference_pairs(rows, context.codec, margin=margin))
    longest = context.recipe.model.max_length
    fit = [pair for pair in made if max(len(pair.better.row), len(pair.worse.row)) <= longest]
    pairs = [pair for pair in fit if pair.better.row.ids != pair.worse.row.ids]
    for count, what in (
        (len(made) - len(fit), "longer than model.max_length"),
        (len(fit) - len(pairs), "of the same tokens"),
    ):
        if count:
            print(f"{stage.name}: {count} pairs {what} are left out")
    random.Random(f"braid/reward_model/{context.recipe.seed}").shuffle(pairs)
    pairs = pairs[: stage.episodes]
    calls = {
        (call.problem_id, call.row.ids, call.row.targets): call
        for pair in pairs
        for call in (pair.better, pair.worse)
    }
    return pairs, list(calls.values())


def _exact(context: RunContext, stage: RewardModelStage) -> list[JudgedCall]:
    """The calls of the recorded episodes, labelled by the task or by what came of them."""
    episodes = drawn_episodes(context, stage, "reward_model")
    task, codec = context.task(stage), context.codec
    verifier = context.recipe.task_of(stage).verifier
    calls: list[JudgedCall] = []
    with nullcontext() if verifier is None else VerifierPool(verifier) as pool:
        judge, activity = Judge(task, codec, pool), ActivityLines(stage.name, "labelling episodes")
        for number, (problem, episode) in enumerate(episodes):
            activity.update("labelling episodes", number, len(episodes))
            activity.show_when_due()
            if stage.target == "steps":
                assert isinstance(task, StepLabelledTask), "the cross-checks ask for it"
                calls += step_calls(task, problem, episode, codec, StepKind(stage.step), stage.label)
                continue
            verdict = judge.judge(problem, episode).verdict
            calls += [] if verdict is None else outcome_call(episode, correct=verdict is Verdict.CORRECT)
    return calls


def _learned(context: RunContext, name: str) -> list[JudgedCall]:
    """The calls that an earlier stage labelled."""
    rows = read_labels(context.directory.stage(name) / LABELS)
    return [row.judged() for row in rows if row.is_labelled]


def is_held_out(problem_id: str, percent: int, seed: int) -> bool:
    """Whether the episodes of a problem are for measuring; the same in every run of the seed."""
    return xxhash.xxh3_64_intdigest(f"held_out/{seed}/{problem_id}".encode()) % 100 < percent
