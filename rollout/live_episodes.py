"""Admission of episodes to an engine: as many as its key-value cache holds, adjusted by measurement.

    usage     share of the cache that live calls hold
    window    ends when as many episodes have ended as may be live at once
    peak      highest usage of a window

    usage > HIGH                       limit <- max(1, floor(min(live, limit) x TARGET / usage))
    peak < TARGET, an episode waited   limit <- max(limit + 1, floor(limit x min(2, TARGET / peak)))

After a cut, the limit is not cut again before the episodes above it have ended: their usage does not
measure the new limit. An engine without room for a call drops another call's keys and values and recomputes
them later (preemption); the limit has to fall before that happens. With few episodes of unequal length it
oscillates.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

HIGH = 0.9
TARGET = 0.75
_MOST_GROWTH = 2.0


class LiveLimit:
    """The rule above, without a clock and without I/O."""

    def __init__(self, *, start: int, most: int) -> None:
        assert 1 <= start <= most
        self.limit = start
        """Episodes that may be live at once."""
        self.live = 0
        self.peak = 0.0
        """Highest usage since a reader last set it to 0."""
        self._most = most
        self._ended = 0
        self._window_peak = 0.0
        self._refused = False
        self._draining = False

    @property
    def room(self) -> bool:
        """Whether one more episode may start."""
        return self.live < self.limit

    def start(self) -> None:
        """Count an episode that starts."""
        assert self.room, "no room"
        self.live += 1

    def refuse(self) -> None:
        """Note that an episode has to wait."""
        self._refused = True

    def end(self) -> None:
        """Count an episode that has ended."""
        self.live -= 1
        self._ended += 1
        self._draining = self._draining and self.live > self.limit
        if self._ended >= self.limit:
            self._end_window()

    def update_usage(self, usage: float) -> None:
        """Apply the current cache usage; call this periodically."""
        self.peak = max(self.peak, usage)
        self._window_peak = max(self._window_peak, usage)
        if usage > HIGH and not self._draining:
            self.limit = max(1, int(min(self.live, self.limit) * TARGET / usage))
            self._draining = self.live > self.limit
            self._begin_window()

    def _end_window(self) -> None:
        if self._refused and self._window_peak < TARGET:
            grown = int(self.limit * min(_MOST_GROWTH, TARGET / max(self._window_peak, 1e-9)))
            self.limit = min(self._most, max(self.limit + 1, grown))
        self._begin_window()

    def _begin_window(self) -> None:
        self._ended, self._window_peak, self._refused = 0, 0.0, False


class LiveEpisodes:
    """A gate that enforces the limit, first come, first served."""

    def __init__(self, limit: LiveLimit) -> None:
        self.limit = limit
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def num_waiting(self) -> int:
        """Episodes that wait for room."""
        return len(self._waiting)

    @asynccontextmanager
    async def admit(self) -> AsyncIterator[None]:
        """Wait for room; inside the context the episode is live."""
        if self._waiting or not self.limit.room:
            self.limit.refuse()
            admitted = asyncio.get_running_loop().create_future()
            self._waiting.append(admitted)
            try:
                await admitted
            except asyncio.CancelledError:
                if admitted.done() and not admitted.cancelled():  # admitted and cancelled in one turn
                    self._leave()
                raise
        else:
            self.limit.start()
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        self.limit.end()
        while self._waiting and self.limit.room:
            admitted = self._waiting.popleft()
            if not admitted.done():
                self.limit.start()
                admitted.set_result(None)
        if self._waiting:
            self.limit.refuse()
