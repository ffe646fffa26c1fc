"""A box whose parent cannot end it ends by itself."""

import os
import time

import pytest
from box_lab import PARAMS, UNBOXED, needs_bubblewrap

from rewards.sandbox.box import _started
from rewards.sandbox.limits import SandboxParams
from rewards.sandbox.run import find_way
from rewards.sandbox.ways import start


@pytest.mark.medium
@pytest.mark.parametrize("params", [PARAMS, UNBOXED], ids=["bubblewrap", "none"])
def test_a_forgotten_box_ends_when_its_time_is_over(params: SandboxParams, tmp_path: object) -> None:
    """Nobody sends it anything, and its input stays open."""
    if params is PARAMS:
        needs_bubblewrap()
    reads, writes = os.pipe()
    began = time.monotonic()
    process = _started(start(find_way(params), params, info=writes, folder=str(tmp_path)), writes, longest=1)
    try:
        assert process.wait(10) != 0
        assert time.monotonic() - began >= 0.9
    finally:
        process.kill()
        process.wait()
        os.close(reads)
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            stream.close()
