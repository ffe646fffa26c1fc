"""`braid track`: send a run's metrics to a tracker."""

import argparse
from pathlib import Path

from rl.commands.arguments import Commands, add_command, ensure_run

TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow")


def add(commands: Commands) -> None:
    """Adds the command and its options to the parser."""
    parser = add_command(
        commands, "track", "send a run's metrics to a tracker; sending again replaces what it had",
        "braid track runs/demo --to wandb --project parallel --aliases trl",
    )  # fmt: skip
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory")
    parser.add_argument("--to", choices=TRACKERS, required=True, help="where to")
    parser.add_argument(
        "--project", metavar="NAME", help="keep runs together under this name; default: the recipe's"
    )
    parser.add_argument(
        "--aliases", choices=("trl", "verl"), nargs="+", default=[],
        help="send metrics also under the names that users of these trainers know",
    )  # fmt: skip
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Send all stages, print where they are, return the exit code."""
    ensure_run(arguments.run)
    from rl.tracking.send import send_run

    sent = send_run(arguments.run, arguments.to, project=arguments.project, aliases=arguments.aliases)
    for stage in sent:
        print(f"{stage.stage:<16} {stage.rows} steps")
    for place in dict.fromkeys(stage.place for stage in sent):
        print(place)
    return 0
