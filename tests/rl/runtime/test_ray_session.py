"""A Ray session of our own: nobody joins it without its token, whatever was imported before."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from data.errors import BraidError
from rl.runtime.ray_session import STARTS, _start_local

CODE = """
import sys
import ray
from ray._raylet import AuthenticationMode, get_authentication_mode
from pathlib import Path
from rl.runtime.ray_session import Runtime

with Runtime(Path(sys.argv[1])):
    assert get_authentication_mode() is AuthenticationMode.TOKEN
    print(ray.get(ray.remote(lambda: 7).remote()))
"""


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_session_has_a_token_also_where_ray_was_imported_first(run_dir: Path, tmp_path: Path) -> None:
    # A home without a token, and nothing said of tokens: a fresh machine.
    bare = {key: value for key, value in os.environ.items() if not key.startswith("RAY_AUTH")}
    result = subprocess.run(
        [sys.executable, "-c", CODE, str(run_dir)],
        env={**bare, "HOME": str(tmp_path)},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["7"]
    assert "oken" not in result.stderr
    assert (tmp_path / ".ray" / "auth_token").read_text()


class SlowRay:
    """Stands in for `ray.init`: leaves a process behind and fails like Ray does when its time is over."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0
        self.processes: list[subprocess.Popen[bytes]] = []

    def __call__(self, **options: Any) -> None:
        self.calls += 1
        if self.calls <= self.failures:
            self.processes.append(subprocess.Popen(["sleep", "600"]))
            raise Exception("The current node timed out during startup.")
        raise RuntimeError("far enough")


@pytest.mark.parametrize(
    ("failures", "error"), [(STARTS - 1, "far enough"), (STARTS, "run the same command")]
)
def test_a_slow_start_is_repeated_and_leaves_nothing(
    failures: int, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy machine: another try, then a message; an error of another kind is not repeated."""
    slow = SlowRay(failures)
    monkeypatch.setattr(ray, "init", slow)
    with pytest.raises((BraidError, RuntimeError), match=error):
        _start_local({}, 2)
    assert slow.calls == STARTS
    for process in slow.processes:
        process.wait(10)
        assert not psutil.pid_exists(process.pid)
