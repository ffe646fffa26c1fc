"""Connections of the server: requests whose head comes late or never, and more connections than wanted."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 30.0
"""Seconds in which a connection must have sent the head of its first request."""
MOST_CONNECTIONS = 4096
"""Connections at once; further ones are closed."""


class BoundedConnection(H11Protocol):
    """An HTTP/1.1 connection of uvicorn that is closed when no request arrives in time."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, or close it when there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        self._late = self.loop.call_later(HEAD_S, transport.abort)

    def handle_events(self) -> None:
        """Take what has arrived; the head of a request ends the wait for it."""
        super().handle_events()
        if self.cycle is not None:
            self._in_time()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the wait, too."""
        self._in_time()
        super().connection_lost(exc)

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
