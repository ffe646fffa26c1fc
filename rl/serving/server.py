"""`braid serve`: engine, application and socket, from start to a graceful stop.

First SIGTERM or Ctrl-C: no further requests (503), those in progress go on for `drain_seconds`. Then, or at a
second signal, all threads are cancelled, and the requests end with what there is. Then the engine ends.
"""

import asyncio
import contextlib
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from data.errors import ConfigError
from data.text.codec import load_codec
from rl.serving.access import LOCAL, Access
from rl.serving.app import build_app
from rl.serving.catalogue import Catalogue
from rl.serving.connection import MOST_CONNECTIONS, BoundedConnection
from rl.serving.exported import Exported, read_exported
from rl.serving.service import Service
from rollout.engines.vllm_settings import VllmSettings
from rollout.host import EpisodeHost

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_KEEP_ALIVE_S = 75
"""Seconds that an idle connection is kept: longer than clients keep theirs (the official one 5 s),
or a request could be sent on a connection that is being closed.
"""
_LAST_S = 10.0
"""Seconds that cancelled requests have for their last words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeSettings:
    """Settings of a server, as the command line gives them."""

    export: Path
    name: str | None = None
    """Model name; None: that of the export's folder."""
    host: str = "127.0.0.1"
    port: int = 0
    keys: tuple[str, ...] = ()
    """API keys; () lets everyone in who reaches the loopback interface."""
    dtype: str | None = None
    """Number format of weights and cache; None: the export's."""
    device: str = "auto"
    kv_cache_gb: float = 0.25
    max_live_calls: int = 256
    tensor_parallel: int = 1
    most_episodes: int = 512
    """Episodes in progress at once, waiting ones included."""
    body_bytes: int = 4 * 1024 * 1024
    drain_seconds: float = 30.0


def engine_settings(settings: ServeSettings, exported: Exported, *, text_stops: bool) -> VllmSettings:
    """The engine of an export."""
    return VllmSettings(
        model_dir=exported.directory,
        max_length=exported.max_length,
        dtype=settings.dtype or exported.dtype,  # type: ignore[arg-type]
        device=settings.device,  # type: ignore[arg-type]
        kv_cache_gb=settings.kv_cache_gb,
        max_live_calls=settings.max_live_calls,
        tensor_parallel=settings.tensor_parallel,
        text_stops=text_stops,
    )


def serve(settings: ServeSettings, on_ready: Callable[[str], None] = print) -> int:
    """Serve until a signal comes. -> exit code. `on_ready` gets a line with the address.

    Raises ConfigError for an export, an address or settings that cannot work; EngineError when the engine
    does not start.
    """
    exported = read_exported(settings.export)
    if settings.host not in LOOPBACK and not settings.keys:
        raise ConfigError(
            f"--host {settings.host}: others can reach the server there, and it has no API key\n"
            "  fix: set BRAID_API_KEY or --api-key-file, or serve on 127.0.0.1"
        )
    codec = load_codec(exported.directory)
    catalogue = Catalogue(settings.name or exported.directory.resolve().name, exported.params, codec)
    engine = engine_settings(settings, exported, text_stops=not codec.words_only)
    with bound(settings.host, settings.port) as listening, asyncio.Runner() as runner:

        async def start_host() -> EpisodeHost:
            host = EpisodeHost.with_vllm(engine, exported.directory)
            await host.start()
            return host

        service = Service(
            start_host, catalogue, codec,
            max_length=exported.max_length, most_episodes=settings.most_episodes,
        )  # fmt: skip
        access = Access(
            keys=settings.keys,
            hosts=() if settings.keys else (*LOCAL, settings.host),
            body_bytes=settings.body_bytes,
        )
        runner.run(_run(settings, service, exported, access, listening, on_ready))
    return 0


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket. Raises ConfigError for an address that cannot be used."""
    allow_many_connections()
    try:
        found = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024
        )
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"--host {host} --port {port}: cannot be listened on ({reason})\n"
            "  fix: choose another port; 0 takes a free one"
        ) from error
    with found:
        yield found


def allow_many_connections() -> None:
    """Raise the limit on open files, as far as the system lets this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MOST_CONNECTIONS
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


class _Server(uvicorn.Server):
    """uvicorn's server without its handling of signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `_run`."""
        yield


def http_server(app: Starlette) -> uvicorn.Server:
    """uvicorn for an application, with bounded connections."""
    return _Server(
        uvicorn.Config(
            app,
            http=BoundedConnection,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(_LAST_S),
        )
    )


async def _run(
    settings: ServeSettings,
    service: Service,
    exported: Exported,
    access: Access,
    listening: socket.socket,
    on_ready: Callable[[str], None],
) -> None:
    await service.start()
    server = http_server(build_app(service, exported, access))
    draining: asyncio.Task[None] | None = None

    def on_signal() -> None:
        nonlocal draining
        if draining is None:
            service.draining = True
            draining = asyncio.create_task(_drain(settings, service, server))
        else:
            service.stop_all()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        host, port = listening.getsockname()[:2]
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        on_ready(f"serving {service.catalogue.name} at {address} (API: {address}/v1)")
        await server.serve(sockets=[listening])
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        if draining is not None:
            draining.cancel()
        await service.close()


async def _drain(settings: ServeSettings, service: Service, server: uvicorn.Server) -> None:
    """Let requests end, then cancel the others, then let the server end."""
    print(f"serve: stopping; {service.in_progress} episodes in progress", flush=True)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.drain_seconds):
            while service.in_progress:
                await asyncio.sleep(0.05)
    service.stop_all()
    server.should_exit = True
