"""An engine without a model, for tests: the output is a function of prompt and seed."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from data.episodes.trajectory import StopReason, VersionSpan
from data.errors import EngineError
from rollout.engines.base import EngineRequest, EngineResult, OnTokens, PublishReport

Script = Callable[[tuple[int, ...], int], Sequence[int]]
"""(prompt ids, seed) -> ids that are sampled unless a stop or a limit comes first."""


class ScriptedEngine:
    """Implements `RestartableEngine`. Stops, lengths, versions and cancelling work as in the real engine."""

    def __init__(
        self, script: Script, *, max_length: int = 4096, version: int = 0, step_s: float = 0.0
    ) -> None:
        """`step_s`: seconds of one token."""
        self._script = script
        self._max_length, self._step_s = max_length, step_s
        self._cancelled: set[str] = set()
        self.version = version
        self.requests: list[EngineRequest] = []
        self.dead = False
        self.process_ids: tuple[int, ...] = ()

    @property
    def max_length(self) -> int:
        return self._max_length

    async def generate(self, request: EngineRequest, on_tokens: OnTokens | None = None) -> EngineResult:
        if self.dead:
            raise EngineError("the engine has been shut down")
        started = time.monotonic()
        self.requests.append(request)
        assert len(request.prompt) + request.max_tokens <= self._max_length
        output: list[int] = []
        stop = StopReason.LENGTH
        for token in list(self._script(request.prompt, request.seed))[: request.max_tokens]:
            await asyncio.sleep(self._step_s)
            if request.id in self._cancelled:
                stop = StopReason.ABORT
                break
            output.append(token)
            if on_tokens is not None:
                on_tokens(len(output) - 1, (token,))
            if token in request.stops:
                stop = StopReason.STOP
                break
        return EngineResult(
            output=tuple(output),
            logprobs=tuple(-math.log(2.0) for _ in output),
            versions=(VersionSpan(version=self.version, start=0, stop=len(output)),),
            stop=stop,
            cached_tokens=0,
            started_s=started,
            finished_s=time.monotonic(),
        )

    def cancel(self, request_ids: Sequence[str]) -> None:
        self._cancelled.update(request_ids)

    async def probe(self) -> None:
        if self.dead:
            raise EngineError("the engine has been shut down")

    async def cache_usage(self) -> float:
        await self.probe()
        return 0.0

    async def publish(self, path: Path, version: int, checksum: str) -> PublishReport:
        await self.probe()
        self.version = version
        return PublishReport(version=version, check_s=0.0, pause_s=0.0, load_s=0.0, total_s=0.0, bytes=0)

    def shutdown(self) -> None:
        self.dead = True
