"""The web application: routes, answers, streams, and clients that go away.

GET  /                      the page, from rl/serving/page
GET  /health                200 when requests are taken, else 503
GET  /metrics               Prometheus' text
GET  /v1/models[/NAME]      what can be asked
POST /v1/chat/completions   POST /v1/completions
"""

import asyncio
import contextlib
import time
import traceback
from collections.abc import Awaitable
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from rl.serving.access import Access
from rl.serving.api_error import ApiError
from rl.serving.asked import Endpoint, parse
from rl.serving.chunks import DONE, PING, Chunks, encode_error
from rl.serving.exported import Exported
from rl.serving.reply import whole_reply
from rl.serving.served import Served
from rl.serving.service import Planned, Service

PAGE = Path(__file__).parent / "page"
"""Folder of the page: its files are served at `/`."""
PING_S = 10.0
"""Seconds of silence after which a stream sends a comment."""
STALL_S = 60.0
"""Seconds after which a client that does not read its stream counts as gone."""
_SAFE = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
"""Headers of every answer: the page loads nothing from elsewhere, and nobody frames it."""


def build_app(service: Service, exported: Exported, access: Access) -> Starlette:
    """The application; the caller starts and closes the service."""
    api = _Api(service, exported, access)
    routes = [
        Route("/health", api.health),
        Route("/metrics", api.measure),
        Mount(
            "/v1",
            routes=[
                Route("/models", api.models),
                Route("/models/{name:path}", api.model),
                Route("/chat/completions", api.chat, methods=["POST"]),
                Route("/completions", api.completions, methods=["POST"]),
            ],
        ),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]
    handlers = {
        ApiError: _answer_error,
        HTTPException: _answer_http,
        ClientDisconnect: _answer_nobody,
        500: _answer_fault,
    }
    return Starlette(routes=routes, exception_handlers=handlers)  # type: ignore[arg-type]


class _Api:
    """The endpoints, as methods of what they share."""

    def __init__(self, service: Service, exported: Exported, access: Access) -> None:
        self._service, self._exported, self._access = service, exported, access

    async def health(self, request: Request) -> Response:
        """An empty 200 as vLLM's, or 503."""
        return Response(status_code=200 if self._service.ready else 503, headers=_SAFE)

    async def measure(self, request: Request) -> Response:
        """All figures, as Prometheus reads them."""
        self._access.ensure_allowed(request)
        return Response(self._service.measure(), media_type=CONTENT_TYPE_LATEST, headers=_SAFE)

    async def models(self, request: Request) -> Response:
        """All models of the catalogue."""
        self._access.ensure_allowed(request)
        found = [self._described(name) for name in self._service.catalogue.models]
        return JSONResponse({"object": "list", "data": found}, headers=_SAFE)

    async def model(self, request: Request) -> Response:
        """One model of the catalogue."""
        self._access.ensure_allowed(request)
        name = request.path_params["name"]
        self._service.catalogue.params(name, None)
        return JSONResponse(self._described(name), headers=_SAFE)

    def _described(self, name: str) -> dict[str, object]:
        params = self._service.catalogue.params(name, None)
        braid = {
            "protocol": params.name,
            "max_length": self._service.max_length,
            "budgets": params.budgets.model_dump(mode="json"),
        }
        head = {"id": name, "object": "model", "created": self._exported.created, "owned_by": "braid"}
        return {**head, "max_model_len": self._service.max_length, "braid": braid}

    async def chat(self, request: Request) -> Response:
        """The reply to `/v1/chat/completions`, or its stream."""
        return await self._answered("chat", request)

    async def completions(self, request: Request) -> Response:
        """The reply to `/v1/completions`, or its stream."""
        return await self._answered("completions", request)

    async def _answered(self, endpoint: Endpoint, request: Request) -> Response:
        counted = self._service.metrics.requests
        try:
            self._access.ensure_allowed(request)
            asked = parse(endpoint, await self._access.body(request))
            planned = await self._service.plan(asked)
            if asked.fields.stream:
                self._service.ensure_room(planned)
                counted.labels(endpoint, "200").inc()
                return _Stream(self._service, planned, self._exported.fingerprint)
            reply = await self._whole(planned, request)
        except ApiError as error:
            counted.labels(endpoint, str(error.status)).inc()
            raise
        counted.labels(endpoint, "200").inc()
        return reply

    async def _whole(self, planned: Planned, request: Request) -> Response:
        created = int(time.time())
        async with self._service.serve(planned, tokens=False) as served:
            await _with_client(served, request.receive, served.finish())
        reply = whole_reply(served, created, self._exported.fingerprint, planned.prompt_tokens)
        return JSONResponse(reply, headers={**_SAFE, "x-request-id": served.id})


async def _with_client(served: Served, receive: Receive, work: Awaitable[None]) -> None:
    """Does the work, and cancels all threads when the client goes away meanwhile."""
    watching = asyncio.create_task(_watch_client(served, receive))
    try:
        await work
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _watch_client(served: Served, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    served.stop()


class _Stream(Response):
    """A stream of server-sent events. Its request is served while it is sent."""

    def __init__(self, service: Service, planned: Planned, fingerprint: str) -> None:
        self._service, self._planned, self._fingerprint = service, planned, fingerprint
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._service.serve(self._planned, tokens=True) as served:
                writer = _Writer(send, served)
                await writer.begin()
                await _with_client(served, receive, self._send(served, writer))
        except ApiError as error:
            await writer.end(encode_error(error))
        else:
            await writer.end(DONE)

    async def _send(self, served: Served, writer: "_Writer") -> None:
        chunks = Chunks(served, int(time.time()), self._fingerprint)
        for chunk in chunks.opening():
            await writer.write(chunk)
        pinging = asyncio.create_task(writer.ping())
        try:
            async for index, what in served.happenings():
                found = chunks.of(index, what)
                if found is not None:
                    await writer.write(found)
        finally:
            pinging.cancel()
        for chunk in chunks.closing():
            await writer.write(chunk)
        options = self._planned.asked.fields.stream_options
        if options is not None and options.include_usage:
            await writer.write(chunks.usage(self._planned.prompt_tokens))


class _Writer:
    """Writes a stream's events, until its client is gone or does not read any more."""

    def __init__(self, send: Send, served: Served) -> None:
        self._send, self._served = send, served
        self._lock = asyncio.Lock()
        self._wrote = time.monotonic()
        self._stalled = False

    async def begin(self) -> None:
        """Send the head of the answer."""
        headers = {
            "content-type": "text/event-stream",
            "cache-control": "no-store",
            "x-request-id": self._served.id,
        }
        raw = [(name.encode(), value.encode()) for name, value in (headers | _SAFE).items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})

    async def write(self, event: bytes) -> None:
        """Send one event; a client that does not read within `STALL_S` seconds is given up."""
        if self._served.given_up:
            return
        try:
            async with self._lock, asyncio.timeout(STALL_S):
                await self._send({"type": "http.response.body", "body": event, "more_body": True})
        except TimeoutError:
            self._stalled = True
            self._served.stop()
        self._wrote = time.monotonic()

    async def ping(self) -> None:
        """Send a comment whenever nothing was sent for `PING_S` seconds."""
        while True:
            await asyncio.sleep(PING_S)
            if time.monotonic() - self._wrote >= PING_S:
                await self.write(PING)

    async def end(self, event: bytes) -> None:
        """Send the last event."""
        await self.write(event)
        if not self._stalled:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STALL_S):
                    await self._send({"type": "http.response.body", "body": b"", "more_body": False})


async def _answer_error(request: Request, error: ApiError) -> Response:
    close = {"connection": "close"} if error.status in (408, 413, 415, 401, 403) else {}
    headers = {**_SAFE, **error.headers, **close}
    return JSONResponse(error.body, status_code=error.status, headers=headers)


async def _answer_http(request: Request, error: HTTPException) -> Response:
    known = {404: "not_found", 405: "method_not_allowed"}
    text = f"{request.method[:20]} {request.url.path[:200]}: {error.detail}"
    found = ApiError(error.status_code, text, code=known.get(error.status_code))
    return await _answer_error(request, found)


async def _answer_nobody(request: Request, error: ClientDisconnect) -> Response:
    """Its client went away while it sent its body: nobody reads this."""
    return Response(status_code=400)


async def _answer_fault(request: Request, error: Exception) -> Response:
    """A mistake of the server's own; what it was is printed, not sent."""
    traceback.print_exception(error)
    return await _answer_error(
        request, ApiError(500, "The server made a mistake; its log has it.", code="internal")
    )
