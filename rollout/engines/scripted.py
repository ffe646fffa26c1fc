"""An engine without a model, for pure tests: what it says is a function of prompt and seed."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence

from data.episodes.trajectory import StopReason, VersionSpan
from rollout.engines.base import EngineRequest, EngineResult

Script = Callable[[tuple[int, ...], int], Sequence[int]]
"""(prompt ids, seed) -> ids that would be sampled if nothing stopped them."""


class ScriptedEngine:
    """Implements `Engine`. Stops, lengths, versions and cancellation behave as in the real one."""

    def __init__(self, script: Script, *, max_length: int = 4096, version: int = 0) -> None:
        self._script = script
        self._max_length = max_length
        self._cancelled: set[str] = set()
        self.version = version
        self.requests: list[EngineRequest] = []

    @property
    def max_length(self) -> int:
        return self._max_length

    async def generate(self, request: EngineRequest) -> EngineResult:
        started = time.monotonic()
        self.requests.append(request)
        assert len(request.prompt) + request.max_tokens <= self._max_length
        output: list[int] = []
        stop = StopReason.LENGTH
        for token in list(self._script(request.prompt, request.seed))[: request.max_tokens]:
            await asyncio.sleep(0)
            if request.id in self._cancelled:
                stop = StopReason.ABORT
                break
            output.append(token)
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

    async def cancel(self, request_ids: Sequence[str]) -> None:
        self._cancelled.update(request_ids)
