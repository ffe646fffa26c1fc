"""Nobody waits for an episode any more: its threads are cancelled at once."""

from collections.abc import Callable


class GiveUp:
    """Ends an episode early, from outside. One for each episode.

    Not an `asyncio.Event`: between its `set` and the coroutine that waits for it lie turns of the event loop,
    and the engine samples on during each of them.
    """

    def __init__(self) -> None:
        self.given = False
        """Whether the episode was given up."""
        self._act: Callable[[], None] | None = None

    def now(self) -> None:
        """Cancel the episode's threads before this returns; later calls do nothing."""
        if self.given:
            return
        self.given = True
        if self._act is not None:
            self._act()

    def connect(self, act: Callable[[], None]) -> None:
        """Give the running episode's reaction, which is called at once when it was given up before."""
        self._act = act
        if self.given:
            act()

    def disconnect(self) -> None:
        """The episode has ended: from now on nothing happens."""
        self._act = None
