"""The `braid` command: builds the parser, calls one command, turns errors into one message and an exit code.

Exit codes: 0 done; 1 something failed at run time; 2 the input is invalid; 128 + n stopped by
signal n (130 Ctrl-C, 141 standard output was closed, 143 SIGTERM).
Commands import what they need: `braid --help` and all refusals work without torch, Ray or vLLM.
"""

import argparse
import asyncio
import errno
import os
import select
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from data.errors import BraidError, ConfigError, StorageError
from data.text.printable import printable
from rl.commands import (
    check,
    data,
    doctor,
    episodes,
    eval,
    export,
    plan,
    replay,
    report,
    serve,
    show,
    steps,
    top,
    track,
    train,
)  # fmt: skip
from rl.runtime.environment import set_driver_environment

_INTERRUPTED, _BROKEN_PIPE, _TERMINATED = 130, 141, 143
_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_COMMANDS = (
    train, top, track, eval, export, episodes, serve, report, show, replay, plan, data, steps, check, doctor,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parsed = build_parser().parse_args(arguments)
    set_driver_environment()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _interrupt_once)
    try:
        code = int(parsed.handler(parsed))
        if sys.stdout is not None:
            sys.stdout.flush()  # here, since at exit Python can only print a warning
        return code
    except ConfigError as error:
        return _refuse(error, 2)
    except BraidError as error:
        return _refuse(error, 1)
    except KeyboardInterrupt:
        return _stopped(parsed.command, arguments, _INTERRUPTED)
    except asyncio.CancelledError:
        return _stopped(parsed.command, arguments, _TERMINATED)
    except OSError as error:
        failure = _output_failure() or (error if error.errno in _NOT_WRITTEN else None)
        if failure is None:
            raise
    # Otherwise Python would try again to write what is left.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(failure, BrokenPipeError):
        return _refuse(StorageError(f"output cannot be written ({failure.strerror})"), 1)
    return _stopped(parsed.command, arguments, _BROKEN_PIPE) if parsed.command == "train" else _BROKEN_PIPE


def _output_failure() -> OSError | None:
    """Why standard output cannot be written; BrokenPipeError when its reader has gone (`| head -1`)."""
    if sys.stdout is None:
        return None
    try:
        sys.stdout.flush()
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return BrokenPipeError() if any(event & select.POLLERR for _, event in poll.poll(0)) else None
    except OSError as error:
        return error


def _interrupt_once(number: int, frame: FrameType | None) -> None:
    """The first Ctrl-C stops the command; further ones must not interrupt the shutdown."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _refuse(error: BraidError, code: int) -> int:
    # Ray raises a worker's error as an instance of the same class, with the original in `cause`.
    # Keys and values of the user's files are in the text: control characters are escaped.
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
