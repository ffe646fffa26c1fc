"""The evaluation stage: held-out figures of finished stages, sampled and greedy, from one set of engines."""

from typing import Any

from rich.progress import Progress

from data.episodes.wire import write_episodes
from rl.config.stages import EvalStage
from rl.controller.rollouts import roll_out
from rl.controller.seams import Rewards
from rl.evaluation.document import Settings, build_summary, write_summary
from rl.evaluation.figure import curves, draw_figure, progress_of
from rl.evaluation.outcomes import Evaluation, Outcome, load_outcomes, outcomes_of, save_outcomes
from rl.evaluation.table import print_summary
from rl.seeds import purpose_seed
from rl.stages.context import RunContext
from rl.tracking.metrics import read_metrics


async def run_eval(context: RunContext, stage: EvalStage) -> dict[str, Any]:
    """Evaluates every checkpoint the stage names; after an interruption, only what is still missing."""
    rewards = context.services.reward_pool(stage)
    evaluations: dict[str, Evaluation] = {}
    for number, name in enumerate(stage.checkpoints):
        evaluations[name] = await _evaluate(context, stage, rewards, name, number)
    report(context, stage, evaluations)
    return {"checkpoints": list(stage.checkpoints)}


async def _evaluate(
    context: RunContext, stage: EvalStage, rewards: Rewards, name: str, number: int
) -> Evaluation:
    engines = await context.services.engines()
    await engines.load(context.directory.model(name), number)
    sampled = await _outcomes(
        context, stage, rewards, name, temperature=stage.temperature, samples=stage.samples
    )
    greedy: list[Outcome] = []
    if stage.greedy:
        greedy = await _outcomes(context, stage, rewards, name, temperature=0.0, samples=1)
    return Evaluation(sampled=tuple(sampled), greedy=tuple(greedy))


async def _outcomes(
    context: RunContext, stage: EvalStage, rewards: Rewards, name: str, *, temperature: float, samples: int
) -> list[Outcome]:
    kind = "sampled" if temperature else "greedy"
    path = context.directory.stage(stage.name) / f"{name}.{kind}.jsonl"
    if path.exists():
        return load_outcomes(path)
    problems = context.problems(stage, stage.split)[: stage.problems]
    engines = await context.services.engines()
    with Progress(transient=True) as progress:
        bar = progress.add_task(f"{stage.name}: {name}, {kind}", total=len(problems))
        pairs = await roll_out(
            engines,
            rewards,
            context.recipe.protocol_of(stage),
            problems,
            context.encode(stage),
            samples=samples,
            temperature=temperature,
            seed=purpose_seed(context.recipe.seed, f"{stage.name}/{kind}"),
            on_group=lambda: progress.advance(bar),
        )
    write_episodes(
        path.with_name(f"{name}.{kind}.episodes.jsonl.gz"),
        (episode for episode, _ in pairs[: stage.keep_episodes]),
    )
    outcomes = outcomes_of(pairs)
    save_outcomes(path, outcomes)
    return outcomes


def report(context: RunContext, stage: EvalStage, evaluations: dict[str, Evaluation]) -> None:
    """summary.json, the table in the terminal, and the picture, with the run's earlier evaluations."""
    arm, seed = context.recipe.protocol_of(stage).name, context.recipe.seed
    # What the recipe does not ask for, and figures of training problems, must not replace the run's own.
    own = stage in context.recipe.stages and stage.split != "train"
    arms: dict[str, dict[str, dict[int, Evaluation]]] = _earlier(context, stage) if own else {}
    for name, evaluation in evaluations.items():
        arms.setdefault(arm, {})[name] = {seed: evaluation}
    settings = Settings(critical_budgets=stage.critical_budgets, bootstrap_samples=stage.bootstrap_samples)
    summary = build_summary(
        arms,
        subject=arm,
        settings=settings,
        seconds=context.accounting.seconds,
        peak_memory_gb=context.accounting.memory.peak_gb,
    )
    folder = context.directory.path if own else context.directory.stage(stage.name)
    write_summary(folder / "summary.json", summary)
    print_summary(summary)
    progress = [
        progress_of(
            read_metrics(context.directory.path / "metrics.jsonl", stage_name=other.name), arm=arm, seed=seed
        )
        for other in context.recipe.trained_stages()
        if other.kind == "rl"
    ]
    problems = len({outcome.problem_id for outcome in next(iter(evaluations.values())).sampled})
    draw_figure(folder / "figure.png", curves=curves(arms), progress=progress, problems=problems)


def _earlier(context: RunContext, stage: EvalStage) -> dict[str, dict[str, dict[int, Evaluation]]]:
    """Arms of the evaluation stages before this one, on the same problems: a curriculum may have several."""
    arms: dict[str, dict[str, dict[int, Evaluation]]] = {}
    task = context.recipe.task_of(stage)
    for other in context.recipe.stages[: context.recipe.stages.index(stage)]:
        if not isinstance(other, EvalStage) or other.split != stage.split:
            continue
        if other.problems != stage.problems:
            continue
        if context.recipe.task_of(other) != task or context.directory.done(other.name) is None:
            continue
        folder = context.directory.stage(other.name)
        for name in other.checkpoints:
            greedy = load_outcomes(folder / f"{name}.greedy.jsonl") if other.greedy else []
            sampled = load_outcomes(folder / f"{name}.sampled.jsonl")
            arm = arms.setdefault(context.recipe.protocol_of(other).name, {})
            arm[name] = {context.recipe.seed: Evaluation(sampled=tuple(sampled), greedy=tuple(greedy))}
    return arms
