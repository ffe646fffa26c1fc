"""Lines of progress while the episodes of an evaluation are sampled."""

import asyncio
import time
from collections.abc import Callable

from rl.tracking.terminal import clock

PROGRESS_SECONDS = 10.0
"""Seconds between two lines of progress."""
LEAST_SHARE = 0.1
"""Share of the episodes that must have ended before a time left is estimated from their pace."""


class EpisodeProgress:
    """Prints a line when sampling starts, one every `PROGRESS_SECONDS` and one at the end."""

    def __init__(self, what: str, *, total: int, kept: int) -> None:
        self._what, self._total, self._first = what, total, kept
        self.done = kept
        """Number of episodes that are done, those of earlier starts included."""
        self._began = time.monotonic()
        kept_before = f" ({kept} from an earlier start)" if kept else ""
        print(f"{what}: {kept}/{total} episodes{kept_before}", flush=True)

    async def print_regularly(self, tell: Callable[[str], None] = lambda _: None) -> None:
        """Prints a line every `PROGRESS_SECONDS` and tells the same every second, until it is cancelled."""
        printed = time.monotonic()
        while True:
            tell(self.line())
            await asyncio.sleep(1.0)
            if time.monotonic() - printed >= PROGRESS_SECONDS:
                printed = time.monotonic()
                self.print()

    def print(self) -> None:
        """Prints the line of progress."""
        print(self.line(), flush=True)

    def line(self) -> str:
        """One line: amount, time elapsed, and the time left at this pace, once that is known."""
        elapsed, new = time.monotonic() - self._began, self.done - self._first
        # Episodes run side by side and end in bunches: of the first few that ended nothing follows.
        known = new >= LEAST_SHARE * (self._total - self._first)
        left = f", about {clock(elapsed / new * (self._total - self.done))} left" if new and known else ""
        return f"{self._what}: {self.done}/{self._total} episodes, {clock(elapsed)} elapsed{left}"
