"""The box of a user without rights: the same endings, and no program with any right."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from box_lab import needs_bubblewrap

ROOT = Path(__file__).parents[3]
NOBODY = 65534
SCRIPT = """
import json, os
from rewards.sandbox.limits import SandboxParams
from rewards.sandbox.run import find_way, run
from rewards.sandbox.suite import Asserts

look = '''
import os, time
def look():
    made = 0
    try:
        for _ in range(50):
            if os.fork() == 0:
                time.sleep(60)
            made += 1
    except OSError:
        pass
    return [os.path.exists("/etc/shadow"), os.access("/dev", os.W_OK), 1 <= made <= 9, os.getuid() == 0]
'''
kill = "import os\\ndef f():\\n    os.kill(os.getppid(), 9)\\n    return 1"
programs = {
    "passed": ("def f(): return 1", "assert f() == 1"),
    "wrong_output": ("def f(): return 2", "assert f() == 1"),
    "runtime_error": ("import os; os._exit(0)", "assert f() == 1"),
    "memory": ("pile = bytearray(10**10)", "assert f() == 1"),
    "output_limit": ("while True: print('x' * 10000)", "assert f() == 1"),
    "timeout": ("while True: pass", "assert f() == 1"),
    "look": (look, "assert look() == [False, False, True, False]"),
    "kill": (kill, "assert f() == 1"),
}
params = SandboxParams(seconds=2, memory_mb=256)
found = {}
for name, (program, test) in programs.items():
    worst = run(program, Asserts(tests=(test,)), params).worst
    found[name] = [worst.ending, worst.detail]
print(json.dumps([find_way(params), found]))
"""


def _python_of_others() -> str:
    """A Python that another user can start: the system's of the same version, or this one."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in (f"/usr/bin/{version}", f"/usr/local/bin/{version}", os.path.realpath(sys.executable)):
        command = [
            "setpriv",
            "--reuid",
            str(NOBODY),
            "--regid",
            str(NOBODY),
            "--clear-groups",
            path,
            "-c",
            "",
        ]
        if subprocess.run(command, capture_output=True, cwd="/").returncode == 0:
            return path
    pytest.skip(f"no {version} here that another user can start")


@pytest.mark.medium
def test_a_user_without_rights_gets_the_same_endings(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can try the other user")
    needs_bubblewrap()
    site = next(path for path in sys.path if path.endswith("site-packages"))
    environment = {"PYTHONPATH": f"{ROOT}:{site}", "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.environ["PATH"]}
    command = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    done = subprocess.run(
        [*command, _python_of_others(), "-c", SCRIPT],
        env=environment, cwd="/", capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    if "Permission denied" in done.stderr or "ModuleNotFoundError" in done.stderr:
        pytest.skip("this checkout or its packages cannot be read by another user")
    assert done.returncode == 0, done.stderr
    way, found = json.loads(done.stdout)
    assert way == ["user"]
    assert found.pop("look") == ["passed", ""]
    assert found.pop("kill")[0] == "runtime_error"
    assert {name: ending for name, (ending, _) in found.items()} == {name: name for name in found}
