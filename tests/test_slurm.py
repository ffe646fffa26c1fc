"""The launch files for Slurm, run for real: `srun` and `scontrol` are stand-ins, both nodes this machine."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from ray_cluster import OBJECT_STORE

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "scripts" / "slurm"
SCRIPTS = sorted(FOLDER.iterdir())
DIRECTIVES = {
    "job-name": r"[\w.-]+",
    "nodes": r"\d+(-\d+)?",
    "ntasks-per-node": r"1",
    "cpus-per-task": r"\d+",
    "gpus-per-node": r"(\w+:)?\d+",
    "time": r"(\d+-)?\d{1,2}:\d{2}:\d{2}",
    "signal": r"B:USR1@\d+",
    "requeue": None,
    "open-mode": r"append|truncate",
    "output": r"[\w./-]*%j[\w./-]*",
}
"""Options of sbatch (its manual page) that we use, and the forms of their values."""

SRUN = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$0.called"
while [[ $1 == --* ]]; do shift; done
exec "$@" --num-cpus=1 {store}
"""
SCONTROL = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$0.called"
"""
RAY = """#!/usr/bin/env bash
exec {python} -m ray.scripts.scripts "$@" {store}
"""
TRAIN = """#!{python}
import json, os, pathlib, signal, sys, time
import ray

command, recipe, _, run, _, address, *more = sys.argv[1:]
ray.init(address=address, logging_level="ERROR", log_to_driver=False)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
while len([node for node in ray.nodes() if node["Alive"]]) < 2:
    time.sleep(0.1)
cpus = ray.cluster_resources()["CPU"]
pathlib.Path(run).write_text(json.dumps([command, recipe, *more, cpus, len(os.environ["RAY_AUTH_TOKEN"])]))
if recipe == "wrong.yaml":
    sys.exit(2)
time.sleep(60)
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_scripts_are_sound(script: Path) -> None:
    """By shellcheck where it is installed, beside Python or on the PATH; by bash itself in any case."""
    found = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    for tool in ([found], ["bash", "-n"]) if found else (["bash", "-n"],):
        done = subprocess.run([*tool, str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_directives_are_options_of_sbatch() -> None:
    lines = re.findall(r"^#SBATCH (.*)$", (FOLDER / "braid.sbatch").read_text(), flags=re.MULTILINE)
    assert len(lines) == len(DIRECTIVES)
    for line in lines:
        option, _, value = line.removeprefix("--").partition("=")
        form = DIRECTIVES[option]
        assert value == "" if form is None else re.fullmatch(form, value), line


def test_directives_come_before_the_first_command() -> None:
    """Slurm reads none after it."""
    lines = (FOLDER / "braid.sbatch").read_text().splitlines()
    last = max(number for number, line in enumerate(lines) if line.startswith("#SBATCH"))
    assert [line for line in lines[: last + 1] if line and not line.startswith("#")] == []


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("braid.sbatch", (), "RECIPE RUN"),
        ("braid.sbatch", ("recipe.yaml", "run"), "BRAID_HOME"),
        ("node.sh", ("head",), "head FILE or worker ADDRESS"),
        ("node.sh", ("head", "file"), "setup.sh"),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    tmp_path: Path, script: str, arguments: tuple[str, ...], words: str
) -> None:
    nowhere = {"BRAID_HOME": str(tmp_path), "BRAID_BIN": str(tmp_path / "bin")}
    done = subprocess.run(
        [str(FOLDER / script), *arguments],
        env={**os.environ, **nowhere},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2
    assert words in done.stderr


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A batch script at work, and the folder of its stand-ins."""

    process: subprocess.Popen[str]
    bin: Path

    def calls(self, name: str) -> list[str]:
        called = self.bin / f"{name}.called"
        return called.read_text().splitlines() if called.exists() else []


Submit = Callable[..., Job]


@pytest.fixture
def submit(tmp_path: Path, no_leftovers: None) -> Submit:
    """Starts braid.sbatch as Slurm would on the first of two nodes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    words = {"python": sys.executable, "store": OBJECT_STORE}
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("ray", RAY), ("braid", TRAIN)):
        (folder / name).write_text(text.format(**words) if name != "scontrol" else text)
        (folder / name).chmod(0o755)
    (folder / "python").symlink_to(sys.executable)
    environment = {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "BRAID_HOME": str(ROOT),
        "BRAID_BIN": str(folder),
        "SLURM_JOB_ID": "17",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURMD_NODENAME": "n1",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_CPUS_ON_NODE": "1",
        "SLURM_SUBMIT_DIR": str(tmp_path),
    }

    def started(*arguments: str) -> Job:
        # Slurm runs a copy from its own folder.
        copy = shutil.copy(FOLDER / "braid.sbatch", tmp_path / "slurm_script")
        process = subprocess.Popen(
            ["bash", str(copy), *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Job(process=process, bin=folder)

    return started


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(180)
def test_the_job_ends_as_braid_does(submit: Submit, tmp_path: Path) -> None:
    job = submit("wrong.yaml", "run", "--set", "rl.steps=3")
    output, _ = job.process.communicate(timeout=150)
    assert job.process.returncode == 2, output
    # Both nodes of one processor each had joined; a token of 32 bytes was there, and nowhere to be read.
    assert (tmp_path / "run").read_text() == '["train", "wrong.yaml", "--set", "rl.steps=3", 2.0, 64]'
    assert job.calls("scontrol") == []
    (call,) = job.calls("srun")
    assert call.startswith("--nodes=1 --ntasks=1 --ntasks-per-node=1 --exclude=n1 --cpus-per-task=1 ")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(180)
def test_when_the_time_is_nearly_up_the_run_is_stopped_and_the_job_queued_again(
    submit: Submit, tmp_path: Path
) -> None:
    job = submit("recipe.yaml", "run")
    deadline = time.monotonic() + 120
    while not (tmp_path / "run").exists():
        assert job.process.poll() is None, job.process.stdout and job.process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    job.process.send_signal(signal.SIGUSR1)
    output, _ = job.process.communicate(timeout=60)
    assert job.process.returncode == 143, output
    assert job.calls("scontrol") == ["requeue 17"]
    assert "resumes run" in output
