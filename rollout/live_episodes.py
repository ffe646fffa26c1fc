"""How many episodes an engine may have under way: as many as its key-value cache holds, found by trying.

    usage     share of the cache that live calls hold; `peak` its highest in a turn
    turn      until as many episodes have ended as may be live at once

    usage > HIGH                             limit <- max(1, floor(min(live, limit) x TARGET / usage))
    peak < TARGET in a turn, and somebody    limit <- max(limit + 1, floor(limit x min(2, TARGET / peak)))
    had to wait

After a cut no other follows until those above the limit have ended: what they hold says nothing about the new
limit. An engine that has no room for a call throws another's keys and values away and computes them again
(preemption); the limit is to come down before that happens. With few episodes of unlike length it swings.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

HIGH = 0.9
TARGET = 0.75
_MOST_GROWTH = 2.0


class LiveLimit:
    """The rule above; no clock, no I/O."""

    def __init__(self, *, start: int, most: int) -> None:
        assert 1 <= start <= most
        self.limit = start
        """Episodes that may be live at once."""
        self.live = 0
        self.peak = 0.0
        """Highest usage since whoever reads it has put it back to 0."""
        self._most = most
        self._ended = 0
        self._peak = 0.0
        self._wanted = False
        self._draining = False

    @property
    def room(self) -> bool:
        """Whether one more may start."""
        return self.live < self.limit

    def start(self) -> None:
        """One begins."""
        assert self.room, "no room"
        self.live += 1

    def refuse(self) -> None:
        """One has to wait."""
        self._wanted = True

    def end(self) -> None:
        """One has ended."""
        self.live -= 1
        self._ended += 1
        self._draining = self._draining and self.live > self.limit
        if self._ended >= self.limit:
            self._turn()

    def hear(self, usage: float) -> None:
        """Every now and then."""
        self.peak = max(self.peak, usage)
        self._peak = max(self._peak, usage)
        if usage > HIGH and not self._draining:
            self.limit = max(1, int(min(self.live, self.limit) * TARGET / usage))
            self._draining = self.live > self.limit
            self._begin_turn()

    def _turn(self) -> None:
        if self._wanted and self._peak < TARGET:
            grown = int(self.limit * min(_MOST_GROWTH, TARGET / max(self._peak, 1e-9)))
            self.limit = min(self._most, max(self.limit + 1, grown))
        self._begin_turn()

    def _begin_turn(self) -> None:
        self._ended, self._peak, self._wanted = 0, 0.0, False


class LiveEpisodes:
    """The limit as a gate, first come, first served."""

    def __init__(self, limit: LiveLimit) -> None:
        self.limit = limit
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def num_waiting(self) -> int:
        """Episodes at the gate."""
        return len(self._waiting)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Inside, the episode is live."""
        if self._waiting or not self.limit.room:
            self.limit.refuse()
            entry = asyncio.get_running_loop().create_future()
            self._waiting.append(entry)
            try:
                await entry
            except asyncio.CancelledError:
                if entry.done() and not entry.cancelled():  # let in and given up at once
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
            entry = self._waiting.popleft()
            if not entry.done():
                self.limit.start()
                entry.set_result(None)
        if self._waiting:
            self.limit.refuse()
