"""`braid export`: write a trained stage as a Hugging Face directory."""

import argparse
from pathlib import Path

from rl.commands.arguments import Commands, add_command, ensure_run


def add(commands: Commands) -> None:
    """Adds the command and its options to the parser."""
    parser = add_command(
        commands, "export", "write a trained stage as a plain Hugging Face directory",
        "braid export runs/demo --checkpoint rl --output my-model",
    )  # fmt: skip
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory")
    parser.add_argument(
        "--checkpoint",
        metavar="STAGE",
        help="sft or rl stage, or start (the initial model); default: the last stage",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", required=True, help="where to")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Write a trained stage as a Hugging Face directory and return the exit code."""
    ensure_run(arguments.run)
    from rl.stages.export import export

    return export(arguments.run, arguments.checkpoint, arguments.output)
