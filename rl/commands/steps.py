"""`braid steps`: cut recorded episodes into labelled steps, or count the steps of a file."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import ConfigError
from data.text.printable import printable
from rl.commands.arguments import Commands, add_command, ensure_run

if TYPE_CHECKING:
    from data.steps.formats.row import StepRow

CUTS = ("line", "paragraph", "call", "thread")
FORMATS = ("trl", "processbench", "math_shepherd", "prm800k", "qwen")


def add(commands: Commands) -> None:
    """Adds the command and its options to the parser."""
    parser = add_command(
        commands, "steps", "cut recorded episodes into labelled steps, or count the steps of a file",
        "braid steps runs/demo --stage rl --format trl --out steps.jsonl",
    )  # fmt: skip
    parser.add_argument(
        "source", type=Path, metavar="RUN|FILE", help=f"run directory, or a file of {', '.join(FORMATS)}"
    )
    parser.add_argument("--stage", metavar="NAME", help="stage of the run whose recorded episodes are cut")
    parser.add_argument(
        "--cut", choices=CUTS, help="kind of step; default: line where the task has them, else paragraph"
    )
    parser.add_argument(
        "--label", choices=("valid", "reachable"), default="valid",
        help="right by itself, or the goal can still be reached; default: valid",
    )  # fmt: skip
    parser.add_argument("--format", choices=FORMATS, default="trl", help="default: trl")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the steps to this .jsonl file")
    parser.add_argument(
        "--truth", action="store_true",
        help="of the labels.jsonl of a label_steps stage: how far they are from the exact labels",
    )  # fmt: skip
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the counts, write the file, return the exit code."""
    out: Path | None = arguments.out
    if out is not None and out.suffix != ".jsonl":
        raise ConfigError(f"--out {out}: steps are written as JSON Lines\n  fix: let its name end in .jsonl")
    lines = _of_run(arguments) if arguments.source.is_dir() else _of_file(arguments)
    print(printable("\n".join(lines), keep="\n"))
    return 0


def _of_file(arguments: argparse.Namespace) -> list[str]:
    from data.steps.counts import count_steps, counts_table
    from data.steps.formats.files import read_steps

    source: Path = arguments.source
    if arguments.stage is not None or arguments.cut is not None:
        raise ConfigError(
            f"{source}: is no run directory, so --stage and --cut do not apply\n"
            "  fix: leave them out, or name the --run of a `braid train`"
        )
    name, rows = read_steps(source)
    lines = [f"{source}: {name}", *counts_table(count_steps(rows)), *_noise(arguments)]
    return lines if arguments.out is None else [*lines, _write(arguments, rows)]


def _noise(arguments: argparse.Namespace) -> list[str]:
    """The figures of `--truth`; [] without it."""
    from rl.scorers.label_file import read_labels
    from rl.scorers.label_noise import noise, noise_table

    if not arguments.truth:
        return []
    found = noise(read_labels(arguments.source))
    if found is None:
        raise ConfigError(
            f"--truth: the task of {arguments.source} has no exact labels\n  fix: leave --truth out"
        )
    return noise_table(found)


def _of_run(arguments: argparse.Namespace) -> list[str]:
    from data.steps.counts import count_steps, counts_table
    from data.steps.step import StepKind
    from rl.evaluation.recorded_steps import stage_steps

    ensure_run(arguments.source)
    if arguments.stage is None:
        raise ConfigError(
            f"{arguments.source}: is a run directory\n  fix: say with --stage whose episodes are to be cut"
        )
    kind = None if arguments.cut is None else StepKind(arguments.cut)
    found = stage_steps(arguments.source, arguments.stage, kind, arguments.label)
    title = f"{arguments.source}: stage {arguments.stage}, labels: {arguments.label}"
    lines = [title, str(found), *counts_table(count_steps(found.rows))]
    return lines if arguments.out is None else [*lines, _write(arguments, found.rows)]


def _write(arguments: argparse.Namespace, rows: "list[StepRow]") -> str:
    from data.steps.formats.files import write_steps

    # ProcessBench has no way to say that nothing is known.
    kept = [row for row in rows if row.is_labelled or arguments.format != "processbench"]
    write_steps(arguments.out, kept, arguments.format)
    left = f", {len(rows) - len(kept)} without a label left out" if len(kept) < len(rows) else ""
    return f"written       {len(kept)} rows as {arguments.format} to {arguments.out}{left}"
