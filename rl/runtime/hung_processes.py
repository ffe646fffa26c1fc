"""Ending of hung processes, after they have written their stack traces."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import psutil

from data.stacks import STACK_SIGNAL, stack_file

_WRITING_S = 1.0


async def end_hung(process_ids: Sequence[int], logs: Path) -> str:
    """Signal processes of this machine and their descendants to write their stacks, then kill them. -> a line
    that says where the stacks are.
    """
    process_ids = _with_descendants(process_ids)
    for process in process_ids:
        if stack_file(logs, process).exists():  # or the signal would end it
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, STACK_SIGNAL)
    await asyncio.sleep(_WRITING_S)
    found = []
    for process in process_ids:
        path = stack_file(logs, process)
        if path.exists() and path.stat().st_size:
            found.append(str(path))
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return f"stacks: {', '.join(found)}" if found else "no stack trace could be collected"


def _with_descendants(process_ids: Sequence[int]) -> list[int]:
    found = list(process_ids)
    for process in process_ids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [child.pid for child in psutil.Process(process).children(recursive=True)]
    return list(dict.fromkeys(found))
