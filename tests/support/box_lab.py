"""Programs in a box, with a watch over every process that they make."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from rewards.sandbox.limits import SandboxParams
from rewards.sandbox.run import find_way, run
from rewards.sandbox.suite import Asserts, Report, Tests

SECONDS = 2
PARAMS = SandboxParams(seconds=SECONDS, memory_mb=256)
UNBOXED = SandboxParams(level="none", seconds=SECONDS, memory_mb=256)


def needs_bubblewrap() -> None:
    """Skip, with the reason, on a machine where no box can start."""
    found = find_way(PARAMS)
    if isinstance(found, str):
        pytest.skip(f"bubblewrap cannot start here: {found}")


def asserts(*tests: str, setup: str = "") -> Asserts:
    """Tests of these statements."""
    return Asserts(tests=tests, setup=setup)


@contextmanager
def watched() -> Iterator[set[psutil.Process]]:
    """Collect each new descendant, a hundred times a second; fail if one is alive at the end."""
    before = set(psutil.Process().children(recursive=True))
    seen: set[psutil.Process] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for one in psutil.Process().children(recursive=True):
                if one not in before:
                    seen.add(one)
            time.sleep(0.01)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
    left = [one for one in seen if _lives(one)]
    assert left == [], f"{len(left)} processes left"


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def run_watched(
    program: str, tests: Tests, params: SandboxParams = PARAMS, *, stop: bool = True, least: int = 1
) -> Report:
    """Run it; when it is over every process must be gone, in time.

    Args:
        program: Python source.
        tests: what it is tested with.
        params: limits.
        stop: as in `run`.
        least: processes that the watch must have seen, so that an empty watch is no success.
    """
    for _ in range(5):  # a short program may be over between two looks of the watch
        with watched() as seen:
            report = run(program, tests, params, stop=stop)
        if len(seen) >= least:
            break
    assert len(seen) >= least, "the watch saw nothing, so it proves nothing"
    assert report.seconds < params.seconds + 1
    return report
