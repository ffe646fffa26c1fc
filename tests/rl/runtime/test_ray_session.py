"""A Ray session of our own: nobody joins it without its token, whatever was imported before."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

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
