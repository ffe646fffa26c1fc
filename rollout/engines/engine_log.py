"""Log file of an engine's processes, and the cause of a failure as found in it."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from data.stacks import LOGS

_PREFIX = re.compile(r"^(?:\([^)]*\) )?(?:(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) [\d-]+ [\d:]+ \[[^\]]*\] ?)?")
_FAILURE = re.compile(r"failed to start|fatal error", re.IGNORECASE)
_EXCEPTION = re.compile(r"^[\w.]*(?:Error|Exception|Interrupt)\b(?:: .*)?$")
_LAST_LINES = 3
_MOST_CHARACTERS = 600


class EngineLog:
    """Output of the engines that one process starts, one after the other in one file."""

    def __init__(self, path: Path | None) -> None:
        """`path` None: output goes to that of this process, and `cause` is empty."""
        self.path = path
        self._start = path.stat().st_size if path is not None and path.exists() else 0
        """Size of the file before this engine."""

    @classmethod
    def of_run(cls) -> Self:
        """The log in the folder of the environment variable `BRAID_LOGS`, if there is one."""
        folder = Path(os.environ[LOGS]) if LOGS in os.environ else None
        return cls(folder / f"engine-{os.getpid()}.log" if folder is not None and folder.is_dir() else None)

    @contextmanager
    def capture(self) -> Iterator[None]:
        """Processes started inside write standard output and error to the file, as long as they live. The
        output of this process meanwhile goes there too.
        """
        if self.path is None:
            yield
            return
        saved = os.dup(1), os.dup(2)
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            _flush()
            os.dup2(file, 1)
            os.dup2(file, 2)
            yield
        finally:
            _flush()
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            for descriptor in (*saved, file):
                os.close(descriptor)

    def cause(self) -> str:
        """What ended the engine, from its log, with the name of the file; "" without a log."""
        if self.path is None:
            return ""
        with self.path.open("rb") as file:
            file.seek(self._start)
            text = file.read().decode(errors="replace")
        return f"\n  {root_cause(text)}\n  log: {self.path}"


def root_cause(log: str) -> str:
    """The first exception of the last failure in a log of vLLM, or its last lines when there is none."""
    lines = [_PREFIX.sub("", line).rstrip() for line in log.splitlines()]
    failures = [number for number, line in enumerate(lines) if _FAILURE.search(line)]
    # One failure is logged several times in a row; later exceptions are consequences of the first.
    exceptions = [line for line in lines[failures[0] if failures else 0 :] if _EXCEPTION.match(line)]
    found = exceptions[0] if exceptions else " | ".join([line for line in lines if line][-_LAST_LINES:])
    return found[:_MOST_CHARACTERS] or "the log is empty"


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
