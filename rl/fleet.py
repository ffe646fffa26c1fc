"""The engines of a run, seen as one: groups go to the least busy engine, weights go to all."""

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.checksum import file_checksum
from data.trajectory import Episode
from rollout.actor import RolloutActor
from rollout.engines.base import EngineRequest, EngineResult
from rollout.engines.vllm_engine import PublishReport
from rollout.engines.vllm_settings import VllmSettings
from rollout.protocols import AnyParams
from rollout.runner import EpisodeTask


@dataclass(slots=True)
class _Seat:
    """One engine and how many groups it is running."""

    actor: Any
    busy: int = 0


class Fleet:
    """All engines. Build it with `start`."""

    def __init__(self, seats: Sequence[_Seat], transfer_dir: Path) -> None:
        self._seats = list(seats)
        self.transfer_dir = transfer_dir
        """Where the learner writes weights for the engines: shared memory where the system has it."""

    @classmethod
    async def start(cls, settings: VllmSettings, tokenizer_dir: Path, *, num_engines: int) -> "Fleet":
        """Bring all engines up at once."""
        shared = Path("/dev/shm")
        transfer_dir = Path(tempfile.mkdtemp(prefix="braid-", dir=shared if shared.is_dir() else None))
        actors = [
            RolloutActor.options(num_cpus=1, max_concurrency=1000).remote(settings, tokenizer_dir)
            for _ in range(num_engines)
        ]
        fleet = cls([_Seat(actor) for actor in actors], transfer_dir)
        try:
            await asyncio.gather(*(actor.start.remote() for actor in actors))
        except BaseException:
            await fleet.shutdown()
            raise
        return fleet

    async def run_group(self, params: AnyParams, tasks: Sequence[EpisodeTask]) -> tuple[list[Episode], Any]:
        """-> (episodes, their object reference, for whoever scores them). Raises EngineError when the
        engine died.
        """
        seat = min(self._seats, key=lambda seat: seat.busy)
        seat.busy += 1
        try:
            reference = seat.actor.run_group.remote(params, tasks)
            return await reference, reference
        finally:
            seat.busy -= 1

    async def publish(self, path: Path, version: int, checksum: str) -> list[PublishReport]:
        """New weights to every engine; in-flight episodes go on. Raises PublishError when one engine
        refused.
        """
        return list(
            await asyncio.gather(*(s.actor.publish.remote(path, version, checksum) for s in self._seats))
        )

    async def load(self, model_dir: Path, version: int) -> None:
        """A saved model to every engine."""
        path = model_dir / "model.safetensors"
        await self.publish(path, version, file_checksum(path))

    async def canary(self, request: EngineRequest) -> list[EngineResult]:
        """The same request to every engine."""
        return list(await asyncio.gather(*(seat.actor.canary.remote(request) for seat in self._seats)))

    async def shutdown(self) -> None:
        """End all engines and remove the transfer folder."""
        await asyncio.gather(*(seat.actor.shutdown.remote() for seat in self._seats), return_exceptions=True)
        shutil.rmtree(self.transfer_dir, ignore_errors=True)
