"""`braid top`: what it reads of a run in any state, and how it draws it; nothing is written."""

import fcntl
import io
import json
import os
import pty
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ledger_lab
import pytest
from rich.console import Console
from run_lab import Made, write_run

from data.errors import ConfigError
from data.ledger.ledger import Ledger
from rl import cli
from rl.tracking.activity_file import ActivityFile, Doing, read_activity
from rl.tracking.metrics import METRICS_FILE
from rl.tracking.metrics_tail import MetricsTail
from rl.tracking.run_state import Phase, RunState, RunWatch, is_locked
from rl.tracking.top_frame import TopFrame

STEP = Made(calls=1, tokens=10, rollout_s=1.0, wait_s=2.0, learner_s=0.75, publish_s=0.25)
"""A step of 3 seconds: 2 of waiting for episodes and rewards, 0.75 of the learner, 0.25 of weight sync."""


def drawn(state: RunState, width: int = 90) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=True)
    console.print(TopFrame(state))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert all(len(line) <= width for line in text.splitlines())
    return text


def finish(run: Path) -> None:
    for stage in ("sft", "rl", "eval", "export"):
        marker = run / "stages" / stage / "done.json"
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text("{}")


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """A run that has made 2 of the 4 steps of its rl stage, its supervised stage done."""
    run = write_run(tmp_path, [STEP] * 4)
    lines = (run / METRICS_FILE).read_text().splitlines(keepends=True)
    (run / METRICS_FILE).write_text("".join(lines[:2]))
    (run / "stages/rl/done.json").unlink()
    (run / "stages/sft").mkdir()
    (run / "stages/sft/done.json").write_text("{}")
    return run


def test_a_finished_run(tmp_path: Path) -> None:
    run = write_run(tmp_path, [STEP] * 4)
    finish(run)
    before = sorted(run.rglob("*"))
    state = RunWatch(run).look()
    assert state.phase is Phase.FINISHED and state.current.name == "rl" and state.current.metrics.step == 4
    assert "small  finished" in drawn(state) and "rl 4/4" in drawn(state)
    assert "learner (s)" in drawn(state) and "0.8" in drawn(state)
    assert sorted(run.rglob("*")) == before


def test_a_run_whose_process_is_gone(half: Path) -> None:
    ActivityFile(half, now=lambda: 1000.0).show("rl", "collecting groups")
    state = RunWatch(half, now=lambda: 1075.0).look()
    assert state.phase is Phase.STOPPED
    assert [stage.phase.value for stage in state.stages] == ["finished", "stopped", "waiting", "waiting"]
    text = drawn(state)
    assert "last said  rl: collecting groups (1:15 ago)" in text and "left" not in text


def test_a_run_at_work_says_what_it_does_and_when_it_ends(half: Path) -> None:
    with Ledger.open(half / "ledger.sqlite") as ledger:
        ledger.open_stage("rl", step=0, next_group=0)
        ledger_lab.start(ledger, 0)
        ledger.fault("rl", "engine", "engine 0", "its process\nwas killed \x1b[2J")
    with (half / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ActivityFile(half, now=lambda: 1000.0).show("rl", "collecting groups, 1 of 2")
        state = RunWatch(half, now=lambda: 1003.0).look()
    assert state.phase is Phase.RUNNING and state.sampling == 1
    assert state.current.seconds_left == pytest.approx(2 * 3.0)
    text = drawn(state)
    assert "rl 2/4, 0:06 left" in text and "on engines  1 groups" in text
    assert "now  rl: collecting groups, 1 of 2 (0:03 ago)" in text
    assert r"engine engine 0: its process was killed \x1b[2J" in text


def test_a_run_that_has_just_begun(tmp_path: Path) -> None:
    run = tmp_path / "run"
    recipe = write_run(tmp_path / "other", [STEP]) / "recipe.json"
    run.mkdir()
    (run / "recipe.json").write_bytes(recipe.read_bytes())
    assert RunWatch(run).look().phase is Phase.STOPPED
    with (run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = RunWatch(run).look()
    assert [stage.phase.value for stage in state.stages] == ["running", "waiting", "waiting", "waiting"]
    assert "starting" in drawn(state)


def test_a_run_of_another_machine_counts_as_running_while_it_speaks(half: Path) -> None:
    ActivityFile(half, now=lambda: 1000.0).show("rl", "learner")
    assert RunWatch(half, now=lambda: 1029.0).look().phase is Phase.RUNNING
    assert RunWatch(half, now=lambda: 1031.0).look().phase is Phase.STOPPED


@pytest.mark.parametrize("width", [16, 34, 56, 200])
def test_every_width_shows_all_values_and_breaks_no_line(half: Path, width: int) -> None:
    text = drawn(RunWatch(half).look(), width)
    assert "learner" in text and len(text.splitlines()) < 14


def test_damaged_files_hide_only_themselves(half: Path) -> None:
    metrics = half / METRICS_FILE
    metrics.write_bytes(b"not json\n" + metrics.read_bytes() + b'{"stage": "rl", "st')
    (half / "ledger.sqlite").write_bytes(b"not a ledger" * 100)
    (half / "activity.json").write_text('{"stage": "rl"}')
    state = RunWatch(half).look()
    assert state.current.metrics.step == 2 and state.doing is None
    for width in (34, 90):  # the reason stands whole, also below a directory longer than the screen is wide
        text = "".join(drawn(replace(state, unreadable=f"{'deep/' * 40}{state.unreadable}"), width).split())
        assert f"{'deep/' * 40}{state.unreadable}".replace(" ", "") in text and "ledger.sqlite" in text
    (half / "recipe.json").write_text("[]")
    with pytest.raises(ConfigError, match="is not a recipe"):
        RunWatch(half)


def test_the_tail_reads_what_is_new_and_a_replaced_file_from_the_start(tmp_path: Path) -> None:
    path, tail = tmp_path / METRICS_FILE, MetricsTail(tmp_path)
    tail.follow()
    assert tail.stages == {}
    row = '{"loss": %s, "stage": "rl", "step": %d, "time": {"x_s": 2.0}}\n'
    path.write_text(row % ("1.0", 1) + row % ('"nan"', 2) + '{"sta')
    tail.follow()
    values = tail.stages["rl"].values
    assert tail.stages["rl"].step == 2 and str(list(values["loss"])) == "[1.0, nan]"
    assert list(values["x_s"]) == [2.0, 2.0]
    path.write_text(path.read_text().removesuffix('{"sta') + row % ("3.0", 3))
    tail.follow()
    assert tail.stages["rl"].last("loss") == 3.0 and len(tail.stages["rl"].values["loss"]) == 3
    other = tmp_path / "other"
    other.write_text(row % ("9.0", 1))
    other.replace(path)  # as a resume does
    tail.follow()
    assert tail.stages["rl"].step == 1 and list(tail.stages["rl"].values["loss"]) == [9.0]


def test_activity_is_written_at_most_once_a_second_and_survives_a_full_disk(tmp_path: Path) -> None:
    now = [100.0]
    file = ActivityFile(tmp_path, now=lambda: now[0])
    file.show("sft", "loading")
    now[0] = 100.5
    file.show("sft", "too soon")
    assert read_activity(tmp_path) == Doing(stage="sft", doing="loading", at=100.0)
    file.show("rl", "another stage")
    assert read_activity(tmp_path) == Doing(stage="rl", doing="another stage", at=100.5)
    ActivityFile(tmp_path / "no such folder").show("rl", "x")


def test_a_lock_is_seen_without_taking_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    with path.open("w") as file:
        assert not is_locked(path)
        fcntl.flock(file, fcntl.LOCK_EX)
        assert is_locked(path)
    assert not is_locked(path)


def test_one_frame_on_no_terminal(half: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["top", str(half)]) == 0
    assert "rl 2/4" in capsys.readouterr().out
    assert cli.main(["top", str(tmp_path / "none")]) == 2
    assert "is not a run directory" in capsys.readouterr().err


@pytest.mark.medium
def test_on_a_terminal_it_follows_until_the_run_has_finished(half: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "rl.cli", "top", str(half), "--every", "0.05"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        while b"rl 2/4" not in seen:
            seen += os.read(ours, 4096)
        with (half / METRICS_FILE).open("a") as file:
            file.write(json.dumps({"stage": "rl", "step": 4, "reward/mean": 0.5}) + "\n")
        finish(half)
        while True:
            try:
                seen += os.read(ours, 4096)
            except OSError:  # its side is closed
                break
    os.close(ours)
    assert process.returncode == 0
    assert b"finished" in seen and b"rl 4/4" in seen and b"0.500" in seen
