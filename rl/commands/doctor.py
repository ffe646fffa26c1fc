"""`braid doctor`: report what this machine can run."""

import argparse

from rl.commands.arguments import Commands, add_command


def add(commands: Commands) -> None:
    """Adds the command and its options to the parser."""
    parser = add_command(
        commands, "doctor", "report what this machine can run, and what is missing", "braid doctor --quick"
    )
    parser.add_argument("--quick", action="store_true", help="do not try to import the large packages")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Report what this machine can run and return the exit code."""
    from rl.preflight.doctor import report

    return report(try_imports=not arguments.quick)
