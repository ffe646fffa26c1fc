"""An engine that survives the death of its process: another is started with the last published weights, and
every call that was in flight is sampled again, with the same context and seed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.episodes.trajectory import StopReason
from data.errors import EngineError, PublishError
from rollout.engines.base import EngineRequest, EngineResult, OnTokens, PublishReport, RestartableEngine

MOST_STARTS = 3
"""Replacements in a row without a finished call between them; then EngineError ends the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """The last publication, as needed to load it into another engine."""

    path: Path
    """The file; it stays until every engine has loaded the next version."""
    version: int
    checksum: str


class RestartingEngine:
    """Implements `Engine`: `start()` first, `shutdown()` at the end."""

    def __init__(self, start: Callable[[], Awaitable[RestartableEngine]]) -> None:
        self._start = start
        self._engine: RestartableEngine | None = None
        self._weights: Weights | None = None
        self._report: PublishReport | None = None
        """Report of the current engine's last weight update."""
        self._starting = asyncio.Lock()
        self._starts = 0
        self._closed = False
        self._cancelled: set[str] = set()
        self._in_flight: set[str] = set()
        self.deaths = 0
        """Engines that were replaced."""

    @property
    def max_length(self) -> int:
        """Longest context + output of one call, in tokens."""
        return self._now.max_length

    @property
    def dead(self) -> bool:
        """Whether the engine is dead and no other is started any more."""
        return self._now.dead and (self._closed or self._starts >= MOST_STARTS)

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Ids of the current engine's processes."""
        return self._now.process_ids

    @property
    def _now(self) -> RestartableEngine:
        assert self._engine is not None, "start() first"
        return self._engine

    async def start(self) -> None:
        """Start the first engine. Raises ConfigError or EngineError when it does not start."""
        self._engine = await self._start()

    async def generate(self, request: EngineRequest, on_tokens: OnTokens | None = None) -> EngineResult:
        """Sample one call; it is sampled again when its engine dies.

        Raises EngineError for a request that the engine refuses, and when one engine after the other dies.
        """
        self._in_flight.add(request.id)
        try:
            while True:
                engine = self._now
                try:
                    result = await engine.generate(request, on_tokens)
                except EngineError as error:
                    if not engine.dead:
                        raise
                    await self._replace(engine, error)
                    if request.id in self._cancelled:
                        return _nothing()
                else:
                    self._starts = 0
                    return result
        finally:
            self._in_flight.discard(request.id)
            self._cancelled.discard(request.id)

    def cancel(self, request_ids: Sequence[str]) -> None:
        """Abort calls, also those that are waiting for another engine."""
        self._cancelled.update(self._in_flight.intersection(request_ids))
        self._now.cancel(request_ids)

    async def publish(self, path: Path, version: int, checksum: str) -> PublishReport:
        """Load new weights. An engine that fails to load them is replaced by one that starts with them.

        Raises PublishError when the replacement cannot load them either: then the file is damaged, and
        nothing is sampled any more.
        """
        self._weights = Weights(path=path, version=version, checksum=checksum)
        engine = self._now
        try:
            self._report = await engine.publish(path, version, checksum)
        except (EngineError, PublishError) as error:
            await self._replace(engine, error)
        assert self._report is not None and self._report.version == version
        return self._report

    async def probe(self) -> None:
        """Return as soon as the engine responds; a dead engine is replaced first."""
        engine = self._now
        try:
            await engine.probe()
        except EngineError as error:
            await self._replace(engine, error)

    async def cache_usage(self) -> float:
        """Share of the key-value cache that live calls hold. Raises EngineError when the engine is dead; it
        is not replaced here.
        """
        return await self._now.cache_usage()

    def shutdown(self) -> None:
        """End the engine's processes, also those of one that is being started; calls in flight fail with
        EngineError.
        """
        self._closed = True
        if self._engine is not None:
            self._engine.shutdown()

    async def _replace(self, failed: RestartableEngine, cause: Exception) -> None:
        """Start another engine with the last weights. Concurrent callers wait for the same one.

        Raises EngineError when it dies again and again, PublishError when it cannot take the weights.
        """
        # Shielded: a caller that gives up must not end the start that others wait for.
        await asyncio.shield(self._start_another(failed, cause))

    async def _start_another(self, failed: RestartableEngine, cause: Exception) -> None:
        async with self._starting:
            if self._engine is not failed:
                return
            failed.shutdown()
            if self._ended() or self._starts >= MOST_STARTS:
                raise EngineError(
                    f"the engine was shut down, or it and its {MOST_STARTS} replacements died one after the "
                    f"other; the last error: {cause}"
                ) from cause
            self._starts += 1
            self.deaths += 1
            engine = await self._start()
            if self._ended():
                engine.shutdown()
                raise EngineError("the engine was shut down while it was being replaced")
            try:
                last = None
                # More weights may be published meanwhile.
                while self._weights is not last:
                    last = self._weights
                    assert last is not None
                    self._report = await engine.publish(last.path, last.version, last.checksum)
            except PublishError:
                engine.shutdown()
                raise
            finally:
                self._engine = engine

    def _ended(self) -> bool:
        """Whether `shutdown` was called, also meanwhile."""
        return self._closed


def _nothing() -> EngineResult:
    """Empty result of a call that was cancelled while its engine was being replaced."""
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
