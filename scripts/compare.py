"""Train several arms with several seeds each, and compare them on the same held-out problems.

    python scripts/compare.py --out runs/compare                    both arms of the demo, three seeds each
    python scripts/compare.py --out runs/compare --only-report      what there is so far, without training

Every run is one `braid train` in OUT/ARM-seedK; the arm is named after its protocol. Seed by seed, so that
after each seed all arms can be compared. Stop at any time: the same command goes on where it stopped. After
each run OUT/summary.json, OUT/table.md and OUT/figure.png are written from all that is finished.

Exit codes are those of `braid`: 0 done, 1 a run failed, 2 the input is invalid, 130 stopped.
"""

import argparse
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from data.errors import BraidError, ConfigError
from data.whole_file import write_text
from rl.commands.child import INTERRUPTED, run_braid
from rl.config import Recipe, load_recipe
from rl.config.stages import EvalStage
from rl.storage.files import read_json
from rl.storage.run_directory import RunDirectory

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
DEFAULT_RECIPES = (RECIPES / "countdown_cpu.yaml", RECIPES / "countdown_sequential_cpu.yaml")


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One arm with one seed."""

    recipe: Recipe
    directory: Path
    command: tuple[str, ...]
    """Arguments of the `braid` command."""

    @property
    def arm(self) -> str:
        """Name of the arm's protocol."""
        return self.recipe.protocol.name

    @property
    def finished(self) -> bool:
        """Whether every stage is."""
        directory = RunDirectory(self.directory)
        return all(directory.done(stage.name) is not None for stage in self.recipe.stages)

    @property
    def measured(self) -> bool:
        """Whether it has outcomes to report."""
        return RunDirectory(self.directory).done(evaluation(self.recipe).name) is not None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the comparison. -> process exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(given)
    try:
        runs = plan(arguments)
        if not arguments.only_report:
            check(runs)
            code = train_all(runs, arguments.out)
            if code:
                return code
        report(arguments.out, runs)
    except BraidError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        command = shlex.join(["python", "scripts/compare.py", *given])
        print(f"\ncompare: stopped; what is finished is kept. Resume with:\n  {command}", file=sys.stderr)
        return INTERRUPTED
    return 0


def plan(arguments: argparse.Namespace) -> list[Run]:
    """All runs, seed by seed. Raises ConfigError for a recipe that is wrong or arms with one name."""
    runs = []
    for seed in dict.fromkeys(arguments.seeds):
        for path in arguments.recipes:
            overrides = [*chain.from_iterable(arguments.overrides), f"seed={seed}"]
            recipe = load_recipe(path, overrides)
            changes = chain.from_iterable(("--set", change) for change in overrides)
            directory = arguments.out / f"{recipe.protocol.name}-seed{seed}"
            command = ("train", str(path), "--run", str(directory), *changes)
            runs.append(Run(recipe=recipe, directory=directory, command=command))
    if len({run.directory for run in runs}) < len(runs):
        raise ConfigError(
            f"--recipes: two have the protocol {runs[0].arm!r}, and an arm is named after its protocol\n"
            "  fix: give recipes that differ in their protocol"
        )
    return runs


def check(runs: Sequence[Run]) -> None:
    """What would otherwise be found after hours: a run that cannot work, or arms that cannot be compared."""
    from rl.preflight.check import ensure_runnable

    first = evaluation(runs[0].recipe)
    for run in runs:
        stage = evaluation(run.recipe)
        same = (stage.split, stage.checkpoints, stage.samples, run.recipe.task_of(stage))
        if same != (first.split, first.checkpoints, first.samples, runs[0].recipe.task_of(first)):
            raise ConfigError(
                f"{run.recipe.source}: is not evaluated as {runs[0].recipe.source} is: task, split, samples "
                "or checkpoints differ\n  fix: use one as the base of the other, and change only its protocol"
            )
        if (run.directory / "fingerprint.json").exists():
            RunDirectory(run.directory).open(run.recipe)
    for run in {run.arm: run for run in runs if not run.finished}.values():
        ensure_runnable(run.recipe)


def evaluation(recipe: Recipe) -> EvalStage:
    """The stage whose outcomes are compared. Raises ConfigError when the recipe has none."""
    stage = next((stage for stage in recipe.stages if isinstance(stage, EvalStage)), None)
    if stage is None:
        raise ConfigError(
            f"{recipe.source}: stages: there is no eval stage, so nothing to compare\n  fix: add one"
        )
    return stage


def train_all(runs: Sequence[Run], out: Path) -> int:
    """Every run that is not finished, each followed by a report. -> exit code of the first that fails."""
    for number, run in enumerate(runs, start=1):
        if run.finished:
            continue
        print(f"compare: run {number} of {len(runs)}: {run.directory}", flush=True)
        code = run_braid(run.command)
        if code:
            print(f"compare: {run.directory} ended with exit code {code}; see above", file=sys.stderr)
            return code
        if number < len(runs):
            report(out, runs)
    return 0


def report(out: Path, runs: Sequence[Run]) -> None:
    """summary.json, table.md and figure.png of all evaluated runs, and the table in the terminal.

    Raises ConfigError when there is none.
    """
    # Imported here: it brings in matplotlib, and a refused input should answer at once.

    from rl.evaluation.document import Settings, build_summary, write_summary
    from rl.evaluation.figure import curves, draw_figure
    from rl.evaluation.gather import finished_evaluations, training_progress
    from rl.evaluation.table import print_summary

    measured = [run for run in runs if run.measured]
    if not measured:
        raise ConfigError(f"{out}: no run is evaluated yet\n  fix: run without --only-report")
    arms: dict[str, Any] = {}
    for run in measured:
        stage = evaluation(run.recipe)
        found = finished_evaluations(run.recipe, RunDirectory(run.directory), stage)
        for name, outcomes in found.items():
            arms.setdefault(run.arm, {}).setdefault(name, {})[run.recipe.seed] = outcomes
    stage = evaluation(measured[0].recipe)
    books = [read_json(run.directory / "accounting.json") for run in measured]
    summary = build_summary(
        arms,
        subject=runs[0].arm if runs[0].arm in arms else measured[0].arm,
        settings=Settings(critical_budgets=stage.critical_budgets, bootstrap_samples=stage.bootstrap_samples),
        seconds=sum(book["seconds"] for book in books),
        peak_memory_gb=max(book["peak_memory_gb"] for book in books),
    )
    write_summary(out / "summary.json", summary)
    progress = [
        line for run in measured for line in training_progress(run.recipe, RunDirectory(run.directory))
    ]
    problems = max(figures["problems"] for stages in summary["arms"].values() for figures in stages.values())
    draw_figure(out / "figure.png", curves=curves(arms), progress=progress, problems=problems)
    _write_table(out / "table.md", summary, f"{len(measured)} of {len(runs)} runs")
    print_summary(summary)
    print(f"compare: {len(measured)} of {len(runs)} runs evaluated; {out / 'summary.json'}", flush=True)


def _write_table(path: Path, summary: dict[str, Any], state: str) -> None:
    from rl.evaluation.table import headline, markdown_table

    seeds = "; ".join(f"{arm}: seeds {', '.join(seeds)}" for arm, seeds in summary["seeds"].items())
    *findings, cost = headline(summary)
    lines = "\n".join(f"- {line}" for line in (*findings, *_gain_lines(summary), cost))
    text = f"{markdown_table(summary)}\n\n{lines}\n\n{state}; {seeds}.\n"
    write_text(path, text)


def _gain_lines(summary: dict[str, Any]) -> Iterator[str]:
    for arm, seeds in summary["seeds"].items():
        for seed, figures in seeds.items():
            gain = figures["gain"]
            if gain:
                low, high = gain["interval"]
                yield f"RL, {arm}, seed {seed}: {gain['points']:+.1f} points [{low:+.1f}, {high:+.1f}]."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="compare",
        description="Train several arms with several seeds, and compare them. Resumable.",
        epilog="example:\n  python scripts/compare.py --out runs/compare --seeds 0 1 2",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="made, or resumed")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="K", help="training seeds; default 0 1 2"
    )
    parser.add_argument(
        "--recipes", type=Path, nargs="+", default=DEFAULT_RECIPES, metavar="RECIPE",
        help="one for each arm, the one of interest first; default: the demo and its sequential baseline",
    )  # fmt: skip
    parser.add_argument(
        "--set", dest="overrides", nargs="+", action="append", default=[], metavar="KEY=VALUE",
        help="change keys of all recipes, e.g. rl.steps=3; may be repeated",
    )  # fmt: skip
    parser.add_argument("--only-report", action="store_true", help="report finished runs, without training")
    return parser


if __name__ == "__main__":
    # A closed terminal too: the run has a session of its own and would train on, unseen. Not under nohup.
    for stop in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(stop) != signal.SIG_IGN:
            signal.signal(stop, signal.default_int_handler)
    sys.exit(main())
