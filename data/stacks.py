"""Stack traces of hanging processes: every process of a run writes them to the run's logs on a signal."""

import faulthandler
import os
import signal
from pathlib import Path
from typing import TextIO

STACK_SIGNAL = signal.SIGUSR1
LOGS = "BRAID_LOGS"
"""Environment variable with the folder that stacks are written to. If unset, nothing is registered."""
_open: list[TextIO] = []
"""The open stack file of this process, if it has one."""


def write_stacks_on_signal(logs: Path | None = None) -> None:
    """Register the signal; call once in each process.

    The interpreter itself writes the stacks, so it works while Python code is stuck.

    Args:
        logs: folder for the stacks; None: the one in `BRAID_LOGS`.
    """
    if logs is None and LOGS in os.environ:
        logs = Path(os.environ[LOGS])
    if logs is not None and logs.is_dir():
        # Kept open: at the signal it is too late to open a file.
        _open.append(stack_file(logs, os.getpid()).open("w"))
        faulthandler.register(STACK_SIGNAL, file=_open[-1])
        for file in _open[:-1]:
            file.close()
        del _open[:-1]


def stack_file(folder: Path, process_id: int) -> Path:
    """File that a process writes its stacks to; empty until the signal."""
    return folder / f"stacks-{process_id}.txt"
