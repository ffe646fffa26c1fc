"""The figures of a run, gathered from the files of its evaluation stages; no engine and no Ray is needed."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rl.config.recipe import Recipe
from rl.config.stages import START, EvalStage
from rl.evaluation.document import Settings, build_summary, write_summary
from rl.evaluation.figure import Progress, curves, draw_figure, progress_of
from rl.evaluation.outcome_file import load_outcomes
from rl.evaluation.outcomes import Evaluation
from rl.evaluation.table import print_summary
from rl.storage.run_directory import RunDirectory
from rl.tracking.metrics import METRICS_FILE, read_metrics

Evaluations = Mapping[str, Evaluation]
"""Evaluations by name of the evaluated stage, in the order of training."""


def outcomes_path(directory: RunDirectory, stage_name: str, checkpoint: str, kind: str) -> Path:
    """The outcomes file of one checkpoint in an evaluation stage; `kind` is "sampled" or "greedy"."""
    return directory.stage(stage_name) / f"{checkpoint}.{kind}.jsonl"


def in_order(recipe: Recipe, evaluations: Evaluations) -> dict[str, Evaluation]:
    """The same evaluations in the order of training, the initial model first."""
    names = [START, *(stage.name for stage in recipe.policy_stages())]
    return {name: evaluations[name] for name in names if name in evaluations}


def finished_evaluations(recipe: Recipe, directory: RunDirectory, stage: EvalStage) -> dict[str, Evaluation]:
    """Evaluations of a finished evaluation stage. Raises ConfigError if its files are missing or damaged."""
    found = {}
    for name in stage.checkpoints:
        greedy = load_outcomes(outcomes_path(directory, stage.name, name, "greedy")) if stage.greedy else []
        sampled = load_outcomes(outcomes_path(directory, stage.name, name, "sampled"))
        found[name] = Evaluation(sampled=tuple(sampled), greedy=tuple(greedy))
    return in_order(recipe, found)


def earlier_arms(
    recipe: Recipe, directory: RunDirectory, stage: EvalStage
) -> dict[str, dict[str, Evaluation]]:
    """Evaluations on the same problems by the finished evaluation stages before this one (a curriculum may
    have several), by protocol.
    """
    arms: dict[str, dict[str, Evaluation]] = {}
    task = recipe.task_of(stage)
    for other in recipe.stages[: recipe.stages.index(stage)]:
        if not isinstance(other, EvalStage) or other.split != stage.split:
            continue
        if other.problems != stage.problems or recipe.task_of(other) != task:
            continue
        if directory.done(other.name) is not None:
            arm = arms.setdefault(recipe.protocol_of(other).name, {})
            arm.update(finished_evaluations(recipe, directory, other))
    return arms


def training_progress(recipe: Recipe, directory: RunDirectory) -> list[Progress]:
    """Validation curves of the rl stages, one for each protocol; steps are counted on from stage to stage."""
    metrics = directory.path / METRICS_FILE
    if not metrics.exists():
        return []
    curves: dict[str, Progress] = {}
    finished_steps: dict[str, int] = {}
    for stage in recipe.policy_stages():
        if stage.kind != "rl" or recipe.task_of(stage).name != recipe.task.name:
            continue  # a judge's curve is none of the policy
        arm = recipe.protocol_of(stage).name
        records = read_metrics(metrics, stage_name=stage.name)
        found = progress_of(records, arm=arm, seed=recipe.seed)
        before = finished_steps.get(arm, 0)
        curves[arm] = found if arm not in curves else joined(curves[arm], found, after=before)
        finished_steps[arm] = before + stage.steps
    return list(curves.values())


def joined(first: Progress, second: Progress, *, after: int) -> Progress:
    """One curve of two stages; the second begins at step `after`. Where both validated the same weights, the
    first counts.

    Example: steps (0, 5, 10) and (0, 5) after 10 give (0, 5, 10, 15).
    """
    new = [index for index, step in enumerate(second.steps) if step + after not in first.steps]
    return replace(
        first,
        steps=(*first.steps, *(second.steps[index] + after for index in new)),
        accuracy=(*first.accuracy, *(second.accuracy[index] for index in new)),
        critical=(*first.critical, *(second.critical[index] for index in new)),
    )


def report(
    recipe: Recipe,
    directory: RunDirectory,
    stage: EvalStage,
    evaluations: Evaluations,
    *,
    seconds: float,
    peak_memory_gb: float,
) -> dict[str, Any]:
    """Writes summary.json and figure.png and prints the table, together with the run's earlier evaluations.
    -> the summary.

    A stage that the recipe does not have, or one on training problems, is reported alone, in its own folder:
    it must not replace the run's figures.
    """
    arm = recipe.protocol_of(stage).name
    own = stage in recipe.stages and stage.split != "train"
    found = earlier_arms(recipe, directory, stage) if own else {}
    found[arm] = in_order(recipe, {**found.get(arm, {}), **evaluations})
    arms = {
        name: {checkpoint: {recipe.seed: evaluation} for checkpoint, evaluation in stages.items()}
        for name, stages in found.items()
    }
    summary = build_summary(
        arms,
        subject=arm,
        settings=Settings(critical_budgets=stage.critical_budgets, bootstrap_samples=stage.bootstrap_samples),
        seconds=seconds,
        peak_memory_gb=peak_memory_gb,
    )
    folder = directory.path if own else directory.stage(stage.name)
    write_summary(folder / "summary.json", summary)
    print_summary(summary)
    problems = len({outcome.problem_id for outcome in next(iter(evaluations.values())).sampled})
    draw_figure(
        folder / "figure.png",
        curves=curves(arms),
        progress=training_progress(recipe, directory),
        problems=problems,
    )
    return summary
