"""Early rejection over tau, on chains that a run sampled to their ends: tokens saved, and winners lost.

    python scripts/rejection_curve.py runs/prm --stage chains --checkpoint sft --json FILE

The stage must be an evaluation of a protocol that thinks in one text, with several samples and
`keep_episodes: null`. Beginnings of every length tau are scored by the reward model of the run's `scorer`
and, on a task that labels its own steps, by the exact labels (`both`: right by itself, and the goal still
within reach), which shows what a perfect reward model would do. `rl.evaluation.rejection_curve` says what the
figures are.

Exit codes are those of `braid`: 0 done, 2 the input is invalid.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data.errors import ConfigError
from data.steps.step import StepKind
from data.tasks.labelled import StepLabelledTask
from data.tasks.problem import Problem
from data.tasks.registry import build_task
from data.text.codec import load_codec
from rl.config import Recipe
from rl.config.stages import EvalStage, RewardModelStage
from rl.evaluation.recorded_steps import stage_problems
from rl.evaluation.rejection_curve import Chain, Point, Share, curve_point
from rl.library.run_reader import RecordedEpisode, Run
from rl.scorers.label_worker import LabelWorker
from rl.scorers.local import TextWorker
from rl.scorers.worker import ScorerSettings, ScorerWorker
from rl.storage.run_directory import RunDirectory
from rollout.commands import ScoredText
from rollout.scoring import ScoreRequest

TAUS, KEEPS = (8, 16, 32, 64, 128), (0.25, 0.5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Chains:
    """All chains of one problem."""

    problem: Problem
    recorded: list[RecordedEpisode]


def main(argv: Sequence[str] | None = None) -> int:
    """-> process exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="finished run directory")
    parser.add_argument("--stage", required=True, metavar="NAME", help="evaluation that sampled whole chains")
    parser.add_argument("--checkpoint", required=True, metavar="NAME", help="checkpoint that sampled them")
    parser.add_argument(
        "--tau", type=int, nargs="+", default=TAUS, metavar="TOKENS", help="lengths of beginnings"
    )
    parser.add_argument(
        "--keep", type=float, nargs="+", default=KEEPS, metavar="SHARE", help="shares that go on"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the curve to this file")
    arguments = parser.parse_args(argv)
    try:
        rows = list(curve(arguments))
    except ConfigError as error:
        print(f"rejection_curve: {error}", file=sys.stderr)
        return 2
    for row in rows:
        print(_line(row))
    if arguments.json is not None:
        named = {"run": str(arguments.run), "stage": arguments.stage, "checkpoint": arguments.checkpoint}
        arguments.json.write_text(json.dumps(named | {"points": [*map(_plain, rows)]}, indent=2) + "\n")
    return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One point of the curve of one scorer."""

    scorer: str
    tau: int
    keep: float
    point: Point


def curve(arguments: argparse.Namespace) -> Iterator[Row]:
    """The points. Raises ConfigError for bounds that mean nothing, and for what holds no whole chains."""
    if min(arguments.tau) < 1 or not all(0 < share <= 1 for share in arguments.keep):
        raise ConfigError("--tau: must be 1 or more, --keep: above 0 and at most 1\n  fix: give other bounds")
    directory = RunDirectory(arguments.run)
    recipe = directory.recipe()
    stage = next((each for each in recipe.stages if each.name == arguments.stage), None)
    if not isinstance(stage, EvalStage):
        raise ConfigError(f"--stage {arguments.stage}: is no evaluation of {arguments.run}\n  fix: name one")
    problems = read_chains(recipe, directory, stage, arguments.checkpoint)
    for name, worker in scorers(recipe, directory, stage).items():
        for tau in arguments.tau:
            scored = [_scored(worker, chains, tau) for chains in problems]
            for keep in arguments.keep:
                yield Row(scorer=name, tau=tau, keep=keep, point=curve_point(scored, tau, keep))


def read_chains(recipe: Recipe, directory: RunDirectory, stage: EvalStage, checkpoint: str) -> list[Chains]:
    """The graded chains of each problem that has several. Raises ConfigError where there are none."""
    known = stage_problems(recipe, directory, stage, load_codec(directory.start))
    found: dict[str, list[RecordedEpisode]] = {}
    for recorded in Run(directory.path).episodes(stage.name):
        if recorded.place != f"{checkpoint}.sampled" or recorded.correct is None:
            continue
        if len(recorded.episode.calls) != 1:
            raise ConfigError(
                f"--stage {stage.name}: an episode has {len(recorded.episode.calls)} calls, "
                "a chain is one text\n"
                "  fix: evaluate with protocol: {name: sequential} and several samples"
            )
        if recorded.episode.problem_id in known:
            found.setdefault(recorded.episode.problem_id, []).append(recorded)
    several = {name: chains for name, chains in found.items() if len(chains) > 1}
    if not several:
        raise ConfigError(
            f"--stage {stage.name}, --checkpoint {checkpoint}: no problem has several graded chains\n"
            "  fix: evaluate with samples above 1, greedy: false and keep_episodes: null"
        )
    return [Chains(problem=known[name], recorded=chains) for name, chains in several.items()]


def scorers(recipe: Recipe, directory: RunDirectory, stage: EvalStage) -> Mapping[str, TextWorker]:
    """The run's reward model, and the exact labels where the task has them. Raises ConfigError without."""
    found: dict[str, TextWorker] = {}
    task, config = recipe.task_of(stage).params, recipe.scorer
    if config is not None and config.stage is not None:
        trained = recipe.stage(config.stage)
        if isinstance(trained, RewardModelStage):
            settings = ScorerSettings(
                model_dir=directory.model(trained.name),
                tokenizer_dir=directory.start,
                target=trained.target,
                step=StepKind(trained.step),
                forest_tokens=config.forest_tokens,
            )
            found[trained.name] = ScorerWorker(settings, task)
    if isinstance(build_task(task), StepLabelledTask):
        found["exact labels"] = LabelWorker("both", task, directory.start)
    if not found:
        raise ConfigError(
            f"{directory.path}: neither a reward model of its own nor exact labels can score its chains\n"
            "  fix: train one (kind: reward_model) and name it in scorer: {stage: NAME}"
        )
    return found


def _scored(worker: TextWorker, chains: Chains, tau: int) -> list[Chain]:
    episodes = [recorded.episode for recorded in chains.recorded]
    texts = tuple(
        ScoredText(context=episode.context_ids(call), output=call.output[:tau], ended=False)
        for episode in episodes
        for call in episode.calls
    )
    (scores,) = worker.score_texts(chains.problem, [ScoreRequest(problem=chains.problem, texts=texts)])
    if isinstance(scores, str):
        raise ConfigError(f"problem {chains.problem.id}: {scores}")
    return [
        Chain(
            tokens=len(recorded.episode.calls[0].output),
            right=bool(recorded.correct),
            value=values[-1],
        )
        for recorded, values in zip(chains.recorded, scores, strict=True)
    ]


def _plain(row: Row) -> dict[str, Any]:
    return {"scorer": row.scorer, "tau": row.tau, "keep": row.keep, **asdict(row.point)}


def _line(row: Row) -> str:
    point = row.point
    cells = [("saved", point.saved), ("winners lost", point.lost), ("problems lost", point.unsolved)]
    told = ", ".join(f"{name} {_cell(share)}" for name, share in cells)
    return f"{row.scorer:<14} tau {row.tau:>4}, keep {row.keep:.2f}: {told}"


def _cell(share: Share | None) -> str:
    if share is None:
        return "-"
    low, high = share.interval
    return f"{share.share:.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    sys.exit(main())
