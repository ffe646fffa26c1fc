"""A server in a thread of the test: the whole of it, on an engine that follows a script or on a real one."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai

from data.errors import EngineError
from data.text.codec import load_codec
from rl.serving.access import Access
from rl.serving.app import build_app
from rl.serving.catalogue import Catalogue
from rl.serving.exported import Exported
from rl.serving.server import bound, http_server
from rl.serving.service import Service
from rollout.engines.base import EngineRequest, EngineResult, OnTokens
from rollout.engines.scripted import ScriptedEngine
from rollout.host import EpisodeHost
from rollout.protocols import AnyParams

NAME = "tiny"


class MortalEngine(ScriptedEngine):
    """A scripted engine that dies after so many calls."""

    dies_after: int | None = None

    async def generate(self, request: EngineRequest, on_tokens: OnTokens | None = None) -> EngineResult:
        """One call; the one that is too many, and all that run, find the engine dead."""
        if self.dies_after is not None and len(self.requests) >= self.dies_after:
            self.shutdown()
        result = await super().generate(request, on_tokens)
        if self.dead:
            raise EngineError("the engine has died")
        return result


@dataclass
class Lab:
    """A running server."""

    url: str
    service: Service
    loop: asyncio.AbstractEventLoop
    engines: list[ScriptedEngine] = field(default_factory=list)

    def client(self, key: str = "none") -> openai.OpenAI:
        """The official client, which does not try again."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=60)

    def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        """A request with a body of one's own."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json", **more.pop("headers", {})}
        return httpx.post(f"{self.url}{path}", content=content, headers=headers, timeout=60, **more)

    def figure(self, name: str) -> float:
        """A figure of /metrics without labels."""
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.split(" ")[0] == name)

    def wait_until(self, happened: Callable[[], bool], seconds: float = 30.0) -> None:
        """Fails when it does not happen in time."""
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, "it has not happened"
            time.sleep(0.01)

    def is_idle(self) -> bool:
        """Whether no episode, and no call of an engine, is left."""
        return self.service.in_progress == 0


@contextlib.contextmanager
def serving(
    model_dir: Path,
    params: AnyParams,
    start_engine: Callable[[], ScriptedEngine],
    *,
    access: Access | None = None,
    most: int = 64,
) -> Iterator[Lab]:
    """A server whose engines `start_engine` makes, one after the other."""
    exported = Exported(
        directory=model_dir, params=params, max_length=512, dtype="float32", created=1, fingerprint="braid_x"
    )
    codec = load_codec(model_dir)
    made: list[ScriptedEngine] = []

    async def start() -> ScriptedEngine:
        made.append(start_engine())
        return made[-1]

    async def start_host() -> EpisodeHost:
        host = EpisodeHost(codec, start, start_limit=32, max_live=32)
        await host.start()
        return host

    catalogue = Catalogue(NAME, params, codec)
    service = Service(start_host, catalogue, codec, max_length=512, most_episodes=most)
    ready: threading.Event = threading.Event()
    found: list[Any] = []

    async def run() -> None:
        await service.start()
        with bound("127.0.0.1", 0) as listening:
            server = http_server(build_app(service, exported, access or Access()))
            port = listening.getsockname()[1]
            found.extend((port, asyncio.get_running_loop(), server))
            ready.set()
            await server.serve(sockets=[listening])
        await service.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(60)
    port, loop, server = found
    lab = Lab(url=f"http://127.0.0.1:{port}", service=service, loop=loop, engines=made)
    lab.wait_until(lambda: server.started)
    try:
        yield lab
    finally:
        server.should_exit = True
        thread.join(60)
    assert not thread.is_alive(), "the server has ended"


def digits(prompt: tuple[int, ...], seed: int) -> Sequence[int]:
    """Forty ids that depend on the seed."""
    return [4 + (seed >> index) % 8 for index in range(40)]
