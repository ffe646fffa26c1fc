"""Times at which a stage that prints nothing else shows its activity."""

import time
from collections.abc import Callable

SILENT_S = 8.0
"""Longest time without a line after one with results (seconds)."""
MOST_SILENT_S = 60.0
"""Longest time without a line while an activity goes on."""


class Silence:
    """Schedule of the lines on the current activity.

    The first is due `SILENT_S` seconds after the last line with results; each further one after twice as
    long, up to `most_s` seconds.

    Example: with `most_s` 60, lines are due after 8, 24, 56, 116, 176, ... seconds; with 8, after 8, 16, 24.
    """

    def __init__(self, most_s: float = MOST_SILENT_S, now: Callable[[], float] = time.monotonic) -> None:
        """`now`: a clock in seconds."""
        self._most_s, self._now = most_s, now
        self.end()

    @property
    def is_due(self) -> bool:
        """Whether a line is due."""
        return self._now() - self._last_line >= self._limit_s

    def end(self) -> None:
        """Note that a line with results was printed."""
        self._last_line, self._limit_s = self._now(), SILENT_S

    def interrupt(self) -> None:
        """Note that the due line was printed."""
        self._last_line, self._limit_s = self._now(), min(2 * self._limit_s, self._most_s)
