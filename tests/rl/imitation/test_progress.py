"""What a supervised stage is doing reaches the screen, at least one line every `SILENT_S`."""

from pathlib import Path

import pytest

from rl.imitation.progress import Activity, ActivityLines, ProgressReader, ProgressWriter
from rl.tracking.silence import SILENT_S


class Clock:
    """Seconds that pass only when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_every_update_is_read_once_and_activities_are_thinned_out(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "progress.jsonl"
    reader, writer = ProgressReader(path), ProgressWriter(path, clock)
    assert reader.new() == []
    writer.doing("making forests", 0, 10)
    for done in range(1, 4):
        clock.now += 0.4
        writer.doing("making forests", done, 10)
    writer.step(1, {"loss": 2.0})
    writer.step(2, {"loss": float("nan")})
    first, second, third, fourth = reader.new()
    assert first == {"doing": "making forests", "done": 0, "total": 10}
    assert second == {"doing": "making forests", "done": 3, "total": 10}  # 1.2 s after the first
    assert third == {"step": 1, "loss": 2.0}
    assert fourth == {"step": 2, "loss": "nan"}  # JSON has no NaN
    assert reader.new() == []
    with path.open("a") as file:
        file.write('{"step": 3, ')
    assert reader.new() == []
    with path.open("a") as file:
        file.write('"loss": 1.0}\n')
    assert reader.new() == [{"step": 3, "loss": 1.0}]


def test_an_activity_tells_amount_elapsed_and_left() -> None:
    activity = Activity(name="making forests", began=100.0, done=200, total=800)
    # 200 took 20 s, so the other 600 take 60 s.
    assert activity.text(120.0) == "making forests, 200 of 800, 0:20 elapsed, about 1:00 left"
    assert Activity(name="loading", began=100.0).text(107.0) == "loading, 0:07 elapsed"
    assert Activity(name="reading", began=0.0, done=3).text(1.0) == "reading, 3 so far, 0:01 elapsed"


def test_the_screen_is_never_silent_for_long(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = ActivityLines("sft", "starting the trainer", clock)
    for _ in range(31):
        lines.show_when_due()
        clock.now += 1.0
    shown = capsys.readouterr().out.splitlines()
    assert shown == [f"sft: starting the trainer, 0:{seconds:02} elapsed" for seconds in (8, 16, 24)]
    assert SILENT_S < 10
    lines.shown()
    lines.update("update 1", 1, 4)
    clock.now += 8.0
    lines.update("update 1", 2, 4)
    lines.show_when_due()
    assert capsys.readouterr().out == "sft: update 1, 2 of 4, 0:08 elapsed, about 0:08 left\n"
