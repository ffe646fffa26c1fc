"""What the reinforcement loop is doing right now, in words and with an estimate."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rl.controller.group_runner import GroupCounts
from rl.tracking.terminal import LiveSummary, clock

INTERVAL_S = 1.0
"""Seconds between two looks at the activity."""


class Activity:
    """The current activity of a stage, with its clock."""

    def __init__(self, name: str, now: Callable[[], float] = time.monotonic) -> None:
        """`name` says what is going on, such as "learner updates"."""
        self._now = now
        self.begin(name)

    def begin(self, name: str, counts: Callable[[], GroupCounts] | None = None, wanted: int = 0) -> None:
        """Start another activity. `counts` and `wanted`: groups so far and needed, to collect a batch."""
        self._name, self._counts, self._wanted = name, counts, wanted
        self._began = self._now()

    def text(self) -> str:
        """One line: the activity, its groups, time elapsed, and time left at this pace.

        Example: "collecting groups: 3 of 4 ready, 1 sampling, 0 scoring, 12 filtered out, 0:30 elapsed, about
        0:10 left".
        """
        elapsed = self._now() - self._began
        time_text = f"{clock(elapsed)} elapsed"
        if self._counts is None:
            return f"{self._name}, {time_text}"
        counts = self._counts()
        ready = min(counts.kept, self._wanted)
        text = (
            f"{self._name}: {ready} of {self._wanted} ready, {counts.sampling} sampling, "
            f"{counts.scoring} scoring, {counts.filtered} filtered out, {time_text}"
        )
        if 0 < ready < self._wanted:
            text += f", about {clock(elapsed / ready * (self._wanted - ready))} left"
        return text


@asynccontextmanager
async def showing(activity: Activity, live: LiveSummary) -> AsyncIterator[None]:
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
