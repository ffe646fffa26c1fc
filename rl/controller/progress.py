"""Progress lines of the reinforcement loop: current activity and an estimate of the time left."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from rl.controller.group_runner import GroupCounts
from rl.tracking.activity import Activity
from rl.tracking.terminal import LiveSummary

INTERVAL_S = 1.0
"""Seconds between two updates of the shown activity."""


class LoopActivity:
    """The current activity of a reinforcement loop, with its clock."""

    def __init__(self, name: str, now: Callable[[], float] = time.monotonic) -> None:
        """`name` describes the activity, such as "learner updates"."""
        self._now = now
        self.begin(name)

    def begin(self, name: str, counts: Callable[[], GroupCounts] | None = None, wanted: int = 0) -> None:
        """Start another activity. `counts` and `wanted`: groups so far and needed, to collect a batch."""
        self._activity = Activity(name=name, began=self._now(), total=wanted)
        self._counts = counts

    def text(self) -> str:
        """One line: the activity, its groups, time elapsed, and time left at this pace.

        Example: "collecting groups (1 sampling, 0 scoring, 12 filtered out), 3 of 4, 0:30 elapsed, about 0:10
        left".
        """
        activity = self._activity
        if self._counts is not None:
            counts = self._counts()
            name = (
                f"{activity.name} ({counts.sampling} sampling, {counts.scoring} scoring, "
                f"{counts.filtered} filtered out)"
            )
            activity = replace(activity, name=name, done=min(counts.kept, activity.total))
        return activity.text(self._now())


@asynccontextmanager
async def showing(activity: LoopActivity, live: LiveSummary) -> AsyncIterator[None]:
    """Show the activity on the screen for as long as the context is open."""

    async def show() -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            live.show_activity(activity.text())

    task = asyncio.create_task(show())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
