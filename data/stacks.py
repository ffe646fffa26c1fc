"""Stacks of a process that hangs: every process of ours writes them to the run's logs when it is asked to."""

import faulthandler
import os
import signal
from pathlib import Path
from typing import TextIO

STACK_SIGNAL = signal.SIGUSR1
LOGS = "BRAID_LOGS"
"""Environment variable: folder that stacks are written to; unset, nothing is registered."""
_open: list[TextIO] = []
"""The file of this process, once it has one."""


def write_stacks_on_signal(logs: Path | None = None) -> None:
    """Call once in each process; `logs` where `BRAID_LOGS` does not say it. The interpreter itself writes, so
    it works while Python code is stuck.
    """
    if logs is None and LOGS in os.environ:
        logs = Path(os.environ[LOGS])
    if logs is not None and logs.is_dir():
        # Open as long as the process lives, or asks for another place: at the signal it is too late.
        _open.append(stack_file(logs, os.getpid()).open("w"))
        faulthandler.register(STACK_SIGNAL, file=_open[-1])
        for file in _open[:-1]:
            file.close()
        del _open[:-1]


def stack_file(folder: Path, process_id: int) -> Path:
    """Where a process writes its stacks; empty until it was asked."""
    return folder / f"stacks-{process_id}.txt"
