"""The `braid` command: builds the parser, calls one command, turns errors into one message and an exit code.

Exit codes: 0 done; 1 something failed at run time; 2 the input cannot work; 130 or 143 stopped by a signal.
Commands import what they need: `braid --help` and every refusal come without torch, Ray or vLLM.
"""

import argparse
import asyncio
import shlex
import sys
from collections.abc import Sequence

from data.errors import BraidError, ConfigError
from data.text.printable import printable
from rl.commands import check, doctor, eval, export, plan, replay, train
from rl.runtime.environment import set_driver_environment

_INTERRUPTED, _TERMINATED = 130, 143
_COMMANDS = (train, eval, export, replay, plan, check, doctor)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. -> process exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parsed = build_parser().parse_args(arguments)
    set_driver_environment()
    try:
        return int(parsed.handler(parsed))
    except ConfigError as error:
        return _refuse(error, 2)
    except BraidError as error:
        return _refuse(error, 1)
    except KeyboardInterrupt:
        return _stopped(parsed.command, arguments, _INTERRUPTED)
    except asyncio.CancelledError:
        return _stopped(parsed.command, arguments, _TERMINATED)


def _refuse(error: BraidError, code: int) -> int:
    # Ray hands on a worker's error as an instance of the same class, with the original in `cause`.
    # Keys and values of the user's files are in the text: none may command the terminal.
    print(printable(f"braid: {getattr(error, 'cause', error)}", keep="\n"), file=sys.stderr)
    return code


def _stopped(command: str, arguments: Sequence[str], code: int) -> int:
    hint = "; what is finished is kept. Resume with the same command:" if command in ("train", "eval") else ""
    print(f"\nbraid: stopped{hint}", file=sys.stderr)
    if hint:
        print(f"  {shlex.join(['braid', *arguments])}", file=sys.stderr)
    return code


def build_parser() -> argparse.ArgumentParser:
    """All commands and options."""
    parser = argparse.ArgumentParser(
        prog="braid",
        description="Train language models to think in parallel: fork, search concurrently, join.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
