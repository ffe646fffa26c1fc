"""A Ray actor that hosts one vLLM engine and runs many episodes on it as coroutines.

It knows nothing of stages: the protocol comes with each group, so the same engine serves reinforcement
learning, validation and evaluation, and a checkpoint is just another publish.
"""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import ray

from data.tokenizer import Codec, load_codec
from data.trajectory import Episode
from rollout.engines.base import EngineRequest, EngineResult
from rollout.engines.vllm_engine import PublishReport, VllmEngine
from rollout.engines.vllm_settings import VllmSettings
from rollout.protocols import AnyParams, ThinkingProtocol, build_protocol
from rollout.runner import EpisodeTask, run_episode


class RolloutWorker:
    """The actor's class, undecorated so that it can be typed and run in-process too. See
    `start_rollout_actor`.
    """

    def __init__(self, settings: VllmSettings, tokenizer_dir: Path) -> None:
        self._settings = settings
        self._codec: Codec = load_codec(tokenizer_dir)
        self._protocols: dict[str, ThinkingProtocol] = {}
        self._engine: VllmEngine | None = None
        self._runs = 0

    async def start(self) -> int:
        """Bring the engine up. -> process id of this actor."""
        self._engine = await VllmEngine.start(self._settings)
        return os.getpid()

    async def run_group(self, params: AnyParams, tasks: Sequence[EpisodeTask]) -> list[Episode]:
        """Run the episodes of one group at once. Raises EngineError when the engine dies."""
        assert self._engine is not None, "start() first"
        protocol = self._protocol(params)
        self._runs += 1
        name = f"{self._runs}:"
        runs = [run_episode(self._engine, protocol, task, name=name) for task in tasks]
        return list(await asyncio.gather(*runs))

    async def publish(self, path: Path, version: int, checksum: str) -> PublishReport:
        """New weights. Raises PublishError, leaving the old ones serving, when they do not arrive whole."""
        assert self._engine is not None, "start() first"
        return await self._engine.publish(path, version, checksum)

    async def canary(self, request: EngineRequest) -> EngineResult:
        """One plain request, to compare the engine's log-probabilities with the learner's."""
        assert self._engine is not None, "start() first"
        return await self._engine.generate(request)

    async def shutdown(self) -> None:
        """End the engine's processes."""
        if self._engine is not None:
            self._engine.shutdown()
            self._engine = None

    def _protocol(self, params: AnyParams) -> ThinkingProtocol:
        key = params.model_dump_json()
        if key not in self._protocols:
            self._protocols[key] = build_protocol(params, self._codec)
        return self._protocols[key]


RolloutActor = ray.remote(RolloutWorker)
"""`RolloutActor.options(...).remote(settings, tokenizer_dir)`; all methods are coroutines of one event
loop.
"""
