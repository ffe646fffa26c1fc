"""Limits of the shell that Ray cannot work under are one message."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from data.errors import ConfigError
from rl.runtime.environment import ensure_address_space

CODE = """
import sys
from pathlib import Path
from rl.runtime.ray_session import Runtime
with Runtime(Path(sys.argv[1])):
    pass
"""


@pytest.mark.parametrize(("limit", "refused"), [(8 * 2**30, True), (resource.RLIM_INFINITY, False)])
def test_a_small_address_space_is_refused(limit: int, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limit, limit))
    if not refused:
        ensure_address_space()
        return
    with pytest.raises(ConfigError, match=r"limits virtual memory to 8\.0 GiB.*ulimit -v"):
        ensure_address_space()


@pytest.mark.slow
def test_a_session_under_ulimit_v_ends_with_the_message(tmp_path: Path) -> None:
    command = f'ulimit -v {8 * 2**20}; exec "{sys.executable}" -c "$0" "$1"'
    done = subprocess.run(
        ["bash", "-c", command, CODE, str(tmp_path)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1
    assert "ConfigError: this shell limits virtual memory to 8.0 GiB" in done.stderr
