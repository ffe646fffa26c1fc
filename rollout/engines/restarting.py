"""An engine that outlives its processes: when they die, others are started with the weights published last,
and every call that was in flight is asked again, with the same context and seed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from data.episodes.trajectory import StopReason
from data.errors import EngineError, PublishError
from rollout.engines.base import Engine, EngineRequest, EngineResult
from rollout.engines.vllm_engine import PublishReport

MOST_STARTS = 3
"""In a row, without a finished call between them; an engine that cannot live must end the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """What was published last: enough to bring another engine to it."""

    path: Path
    """Stays on disk until the next version has replaced it on every engine."""
    version: int
    checksum: str


class RestartableEngine(Engine, Protocol):
    """What `RestartingEngine` needs of the engines that it starts. `VllmEngine` is one."""

    @property
    def dead(self) -> bool: ...

    @property
    def process_ids(self) -> tuple[int, ...]: ...

    async def probe(self) -> None: ...

    async def cache_usage(self) -> float: ...

    async def publish(self, path: Path, version: int, checksum: str) -> PublishReport: ...

    def shutdown(self) -> None: ...


class RestartingEngine:
    """Implements `Engine`. Begin with `start()`, end with `shutdown()`."""

    def __init__(self, start: Callable[[], Awaitable[RestartableEngine]]) -> None:
        self._start = start
        self._engine: RestartableEngine | None = None
        self._weights: Weights | None = None
        self._report: PublishReport | None = None
        """Of the engine at work, about its weights."""
        self._starting = asyncio.Lock()
        self._starts = 0
        self._cancelled: set[str] = set()
        self._in_flight: set[str] = set()
        self.deaths = 0
        """Engines that were replaced."""

    @property
    def max_length(self) -> int:
        """Longest context + output of one call, in tokens."""
        return self._now.max_length

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Of the engine at work now."""
        return self._now.process_ids

    @property
    def _now(self) -> RestartableEngine:
        assert self._engine is not None, "start() first"
        return self._engine

    async def start(self) -> None:
        """Raises ConfigError or EngineError when not even the first engine comes up."""
        self._engine = await self._start()

    async def generate(self, request: EngineRequest) -> EngineResult:
        """See `Engine.generate`. Raises EngineError for a request that no engine would take, and when one
        engine after the other dies.
        """
        self._in_flight.add(request.id)
        try:
            while True:
                engine = self._now
                try:
                    result = await engine.generate(request)
                except EngineError:
                    if not engine.dead:
                        raise
                    await self._replace(engine)
                    if request.id in self._cancelled:
                        return _nothing()
                else:
                    self._starts = 0
                    return result
        finally:
            self._in_flight.discard(request.id)
            self._cancelled.discard(request.id)

    async def cancel(self, request_ids: Sequence[str]) -> None:
        """See `Engine.cancel`; holds also for a call that has to be asked again."""
        self._cancelled.update(self._in_flight.intersection(request_ids))
        await self._now.cancel(request_ids)

    async def publish(self, path: Path, version: int, checksum: str) -> PublishReport:
        """New weights. An engine that fails to take them is replaced by one that begins with them.

        Raises PublishError when that one cannot take them either: then they are damaged, and nothing is
        sampled any more.
        """
        self._weights = Weights(path=path, version=version, checksum=checksum)
        engine = self._now
        try:
            self._report = await engine.publish(path, version, checksum)
        except (EngineError, PublishError):
            await self._replace(engine)
        assert self._report is not None and self._report.version == version
        return self._report

    async def probe(self) -> None:
        """Returns when the engine is seen to work; an engine that has died is replaced first."""
        engine = self._now
        try:
            await engine.probe()
        except EngineError:
            await self._replace(engine)

    async def cache_usage(self) -> float:
        """Share of the key-value cache that live calls hold. Raises EngineError when the engine is dead, and
        does nothing about it.
        """
        return await self._now.cache_usage()

    def shutdown(self) -> None:
        """Ends the engine's processes; calls in flight fail with EngineError."""
        self._starts = MOST_STARTS
        if self._engine is not None:
            self._engine.shutdown()

    async def _replace(self, failed: RestartableEngine) -> None:
        """Another engine at the last weights. Whoever comes while one is on its way waits for it.

        Raises EngineError when it dies again and again, PublishError when it cannot take the weights.
        """
        async with self._starting:
            if self._engine is not failed:
                return
            failed.shutdown()
            if self._starts >= MOST_STARTS:
                raise EngineError(
                    f"the engine was ended, or it and {MOST_STARTS} that followed it died one after the "
                    "other; VLLM_LOGGING_LEVEL=INFO shows the engine's log"
                )
            self._starts += 1
            self.deaths += 1
            engine = await self._start()
            try:
                last = None
                # Others may be published meanwhile.
                while self._weights is not last:
                    last = self._weights
                    assert last is not None
                    self._report = await engine.publish(last.path, last.version, last.checksum)
            except PublishError:
                engine.shutdown()
                raise
            finally:
                self._engine = engine


def _nothing() -> EngineResult:
    """The end of a call that was cancelled while its engine was being replaced."""
    now = time.monotonic()
    return EngineResult(
        output=(),
        logprobs=(),
        versions=(),
        stop=StopReason.ABORT,
        cached_tokens=0,
        started_s=now,
        finished_s=now,
    )
