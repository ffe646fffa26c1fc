"""`braid replay`: train an rl stage again from its record and compare the weights."""

import argparse
from pathlib import Path

from rl.commands.arguments import Commands, add_command, ensure_run


def add(commands: Commands) -> None:
    """Adds the command and its options to the parser."""
    parser = add_command(
        commands, "replay", "train a finished rl stage again from its record, and compare the weights",
        "braid replay runs/demo --stage rl",
    )  # fmt: skip
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory")
    parser.add_argument("--stage", metavar="STAGE", help="rl stage; default: the last one")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Train an rl stage again from its record and return the exit code."""
    ensure_run(arguments.run)
    from rl.learner.replay import replay

    return replay(arguments.run, arguments.stage)
