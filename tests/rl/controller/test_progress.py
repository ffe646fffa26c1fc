"""What the loop is doing, in one line with an estimate."""

import asyncio
import io

import pytest
from rich.console import Console

from rl.controller import progress
from rl.controller.group_runner import GroupCounts
from rl.controller.progress import LoopActivity, showing
from rl.tracking.terminal import LiveSummary


def test_an_activity_has_its_own_clock() -> None:
    now = [100.0]
    activity = LoopActivity("starting engines and learner", lambda: now[0])
    now[0] += 5
    assert activity.text() == "starting engines and learner, 0:05 elapsed"
    activity.begin("learner")
    now[0] += 70
    assert activity.text() == "learner, 1:10 elapsed"


def test_a_batch_is_counted_and_estimated() -> None:
    """Three of four groups in 30 s: about 10 s for the fourth. There is no estimate for none, or for all."""
    now, kept = [100.0], [0]
    activity = LoopActivity("x", lambda: now[0])
    counts = lambda: GroupCounts(sampling=1, scoring=2, kept=kept[0], filtered=12)  # noqa: E731
    activity.begin("collecting groups", counts, 4)
    now[0] += 30
    whole = "collecting groups (1 sampling, 2 scoring, 12 filtered out), {} of 4, 0:30 elapsed"
    assert activity.text() == whole.format(0)
    kept[0] = 3
    assert activity.text() == whole.format(3) + ", about 0:10 left"
    kept[0] = 7  # some of the next batch
    assert activity.text() == whole.format(4)


def test_the_activity_is_shown_while_its_work_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL_S", 0.001)
    out = io.StringIO()
    live = LiveSummary("rl", total=2, console=Console(file=out), now=iter(range(0, 10_000, 5)).__next__)

    async def work() -> None:
        async with showing(LoopActivity("starting engines and learner"), live):
            while not out.getvalue():
                await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(work(), 20))
    assert out.getvalue().startswith("rl 0/2: starting engines and learner, 0:0")
