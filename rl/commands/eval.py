"""`braid eval`: evaluate a stage of a run, or resume an evaluation that was stopped."""

import argparse
from pathlib import Path

from rl.commands.arguments import Commands, add_address_argument, add_command, ensure_run, positive
from rl.runtime.address import ensure_answers


def add(commands: Commands) -> None:
    """Adds the command and its options to the parser."""
    parser = add_command(
        commands, "eval", "evaluate a stage of a run, or resume an evaluation that was stopped",
        "braid eval runs/demo --checkpoint rl --samples 4 --split test",
    )  # fmt: skip
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory")
    parser.add_argument(
        "--checkpoint",
        metavar="STAGE",
        help="sft or rl stage, or start (the initial model); default: the last stage",
    )
    parser.add_argument(
        "--samples", type=positive, default=1, metavar="N", help="episodes per problem; default 1"
    )
    parser.add_argument("--split", choices=("validation", "test"), default="test", help="default: test")
    parser.add_argument("--protocol", metavar="NAME", help="use this protocol; default: the stage's")
    add_address_argument(parser)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate a stage of a run and return the exit code."""
    ensure_run(arguments.run)
    ensure_answers(arguments.address)
    from rl.evaluate import evaluate

    return evaluate(
        arguments.run,
        arguments.checkpoint,
        samples=arguments.samples,
        split=arguments.split,
        protocol=arguments.protocol,
        address=arguments.address,
    )
