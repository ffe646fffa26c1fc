"""`braid report`: one HTML file on one run or several."""

import argparse
from pathlib import Path

from data.errors import ConfigError
from data.whole_file import write_text
from rl.commands.arguments import Commands, add_command

MOST_RUNS = 6
"""Most runs beside each other: more have no colours that can be told apart."""


def add(commands: Commands) -> None:
    """Adds the command and its options to the parser."""
    parser = add_command(
        commands, "report", "write one HTML file on a run, or on several beside each other",
        "braid report runs/demo -o report.html",
    )  # fmt: skip
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="run directory; it may still be going"
    )
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("report.html"), metavar="FILE", help="default: report.html"
    )
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the report and return the exit code."""
    runs, out = arguments.runs, arguments.out
    if len(runs) > MOST_RUNS:
        raise ConfigError(f"{len(runs)} runs: a report has at most {MOST_RUNS}\n  fix: write several reports")
    if out.suffix not in (".html", ".htm"):
        raise ConfigError(f"-o {out}: the report is HTML\n  fix: let its name end in .html")
    if out.is_dir() or not out.parent.is_dir():
        raise ConfigError(f"-o {out}: cannot be written there\n  fix: name a file in a folder that exists")
    from rl.reporting.gather import gather_run
    from rl.reporting.render import render_report

    parts = [gather_run(path, label) for path, label in zip(runs, labels(runs), strict=True)]
    page = render_report(parts)
    write_text(out, page)
    for part in parts:
        for gap in part.gaps:
            print(f"{part.label}: left out: {gap}")
    print(f"{out}: {len(page.encode()) / 1e6:.1f} MB, {len(parts)} run{'s' if len(parts) > 1 else ''}")
    return 0


def labels(runs: list[Path]) -> list[str]:
    """A short name for each run: its folder's, with the folder above where two are equal.

    Example: a/demo, b/demo, c give a/demo, b/demo, c; the same folder twice gets a number.
    """
    names = [path.absolute().name for path in runs]
    longer = [f"{path.absolute().parent.name}/{path.absolute().name}" for path in runs]
    chosen = [long if names.count(name) > 1 else name for name, long in zip(names, longer, strict=True)]
    return [
        f"{name} ({chosen[: index + 1].count(name)})" if chosen.count(name) > 1 else name
        for index, name in enumerate(chosen)
    ]
