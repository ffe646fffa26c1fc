"""`braid top`: a live view of a run, from its files."""

import argparse
import time
from pathlib import Path

from rl.commands.arguments import Commands, above_zero, add_command, ensure_run


def add(commands: Commands) -> None:
    """Adds the command and its options to the parser."""
    parser = add_command(
        commands, "top", "watch a run from another terminal or machine; only reads its files",
        "braid top runs/demo",
    )  # fmt: skip
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory")
    parser.add_argument("--once", action="store_true", help="print one frame and end")
    parser.add_argument(
        "--every", type=above_zero, default=2.0, metavar="SECONDS", help="time between frames; default: 2"
    )
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Show the run until it has finished or Ctrl-C is pressed, and return the exit code."""
    ensure_run(arguments.run)
    from rich.console import Console
    from rich.live import Live

    from rl.tracking.run_state import Phase, RunWatch
    from rl.tracking.top_frame import TopFrame

    console, watch = Console(), RunWatch(arguments.run)
    state = watch.look()
    if arguments.once or not console.is_terminal:
        console.print(TopFrame(state))
        return 0
    with Live(TopFrame(state), console=console, auto_refresh=False, vertical_overflow="crop") as live:
        try:
            while state.phase is not Phase.FINISHED:
                time.sleep(arguments.every)
                state = watch.look()
                live.update(TopFrame(state), refresh=True)
        except KeyboardInterrupt:
            pass
    return 0
