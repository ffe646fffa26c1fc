"""Who may ask: API keys, the host a request names, and bodies of bounded size that come in time."""

import asyncio
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.requests import Request

from rl.serving.api_error import ApiError

LOCAL = ("localhost", "127.0.0.1", "[::1]")
"""Names by which a request may call a server on the loopback interface."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """Limits on who asks, and how."""

    keys: tuple[str, ...] = field(default=(), repr=False)
    """API keys; () lets everyone in."""
    hosts: tuple[str, ...] = LOCAL
    """Names that the header Host may have where there are no keys; () allows all. It keeps web pages of
    others from reaching the server under a name of theirs (DNS rebinding).
    """
    body_bytes: int = 4 * 1024 * 1024
    """Most bytes of a body."""
    body_seconds: float = 30.0
    """Seconds in which a body must have arrived."""

    def ensure_allowed(self, request: Request) -> None:
        """Raises ApiError (401, 403) for a request without a key, or for another host."""
        if self.keys:
            scheme, _, key = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not _is_one_of(key.strip(), self.keys):
                raise ApiError(
                    401, "The API key is missing or wrong: Authorization: Bearer KEY.", code="invalid_api_key"
                )
        elif self.hosts:
            name = request.headers.get("host", "").lower()
            name = name if name.endswith("]") else name.rpartition(":")[0] or name
            if name not in self.hosts:
                raise ApiError(403, f"The host {name[:100]!r} is not this server.", code="host_not_allowed")

    async def body(self, request: Request) -> bytes:
        """The body of a request. Raises ApiError: no JSON (415), too large (413), too slow (408)."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            # Also keeps pages of other sites out: without this header a browser asks nobody for permission.
            raise ApiError(415, "The content type must be application/json.", code="unsupported_media_type")
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self.body_bytes:
            raise self._too_large()
        chunks, size = [], 0
        try:
            async with asyncio.timeout(self.body_seconds):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > self.body_bytes:
                        raise self._too_large()
                    chunks.append(chunk)
        except TimeoutError:
            raise ApiError(
                408, f"The body did not arrive within {self.body_seconds:g} s.", code="request_timeout"
            ) from None
        return b"".join(chunks)

    def _too_large(self) -> ApiError:
        return ApiError(413, f"The body is larger than {self.body_bytes} bytes.", code="request_too_large")


def _is_one_of(key: str, keys: Sequence[str]) -> bool:
    """Compared in constant time, with every key."""
    found = False
    for known in keys:
        found |= hmac.compare_digest(key.encode("utf-8", "surrogateescape"), known.encode())
    return found
