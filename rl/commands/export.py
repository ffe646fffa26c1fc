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
    parser.add_argument(
        "--verify",
        action="store_true",
        help="do not write: check the export in DIR against the run, also by transformers and vLLM",
    )
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Write a trained stage as a Hugging Face directory, or check one, and return the exit code."""
    ensure_run(arguments.run)
    from rl.stages.export import export, verify

    if arguments.verify:
        return verify(arguments.run, arguments.checkpoint, arguments.output)

    return export(arguments.run, arguments.checkpoint, arguments.output)
