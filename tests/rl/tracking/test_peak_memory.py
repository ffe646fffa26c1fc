import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from rl.tracking.peak_memory import PeakMemory, process_tree, resident_bytes

ALLOCATE = "import sys; held = b'x' * int(sys.argv[1]); print('ready', flush=True); sys.stdin.read()"
PASS_ON = (
    "import subprocess, sys; "
    "subprocess.run([sys.executable, '-c', sys.argv[2], sys.argv[1], 'session-of-' + sys.argv[1]])"
)
MB = 1_000_000


@contextmanager
def grandchild(size: int) -> Iterator[subprocess.Popen[str]]:
    """A child whose own child holds `size` bytes until its standard input closes."""
    command = [sys.executable, "-c", PASS_ON, str(size), ALLOCATE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
        process.communicate("")


def test_peak_counts_a_grandchild_that_is_gone_at_the_end() -> None:
    with PeakMemory(interval_s=0.02) as peak:
        before = peak.sample()
        with grandchild(200 * MB):
            held = peak.sample()
        after = peak.sample()
    assert 0.2 <= held - before <= 0.3  # the 200 MB and two interpreters
    assert abs(after - before) < 0.05
    assert held <= peak.peak_gb <= held + 0.1


def test_shared_pages_count_once() -> None:
    # After a fork both processes map the same 100 MB: RSS counts them twice, PSS once.
    held = bytearray(b"x" * 100 * MB)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    try:
        sizes = [resident_bytes(psutil.Process(pid)) for pid in (os.getpid(), child)]
        resident = [psutil.Process(pid).memory_info().rss for pid in (os.getpid(), child)]
    finally:
        os.close(writer)
        os.close(reader)
        os.waitpid(child, 0)
    assert sum(resident) - sum(sizes) > 90 * MB
    assert len(held) == 100 * MB


def test_processes_are_found_by_command_line() -> None:
    with grandchild(MB) as process:
        own = psutil.Process(process.pid).children()[0].pid
        assert set(process_tree([process.pid])) == {process.pid, own}
        assert own not in process_tree([])
        assert set(process_tree([], f"session-of-{MB}")) == {own}


def test_vanished_processes_count_nothing() -> None:
    with grandchild(MB) as process:
        gone = psutil.Process(process.pid)
    assert resident_bytes(gone) == 0
    peak = PeakMemory(process.pid, earlier_gb=1.5)
    assert peak.sample() == 0.0
    assert peak.peak_gb == 1.5  # what was seen before a resume


def test_stop_ends_the_thread_at_once() -> None:
    peak = PeakMemory(interval_s=60).start()
    assert peak.stop() > 0
    assert all(thread.name != "peak-memory" for thread in threading.enumerate())
