"""`braid` in a process of its own, for scripts that train many runs one after the other."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

INTERRUPTED = 130
"""Exit code of a run that was stopped by Ctrl-C."""
_STOP_S = 60.0
"""A run that was asked to stop ends its engines first; after so long it is killed."""


def run_braid(command: Sequence[str]) -> int:
    """`braid` with these arguments in a process of its own. -> its exit code.

    Its own session: a Ctrl-C at the terminal then reaches it once, from here, and never its workers directly.
    """
    with subprocess.Popen([*braid_command(), *command], start_new_session=True) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            with _deaf():
                _stop(process)
            raise
    if code in (INTERRUPTED, -signal.SIGINT):
        raise KeyboardInterrupt
    return code if code > 0 else 1 if code else 0


def braid_command() -> list[str]:
    """The command of this environment; a checkout that is not installed has it as a module only."""
    script = Path(sys.executable).with_name("braid")
    return [str(script)] if script.exists() else [sys.executable, "-m", "rl.cli"]


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()


@contextmanager
def _deaf() -> Iterator[None]:
    """A second Ctrl-C must not leave the run without anyone who waits for it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
