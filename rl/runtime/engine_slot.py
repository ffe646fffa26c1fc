"""One engine of the pool: its actor and the pool's state of it.

A slot outlives its actors. When one dies, `launch` starts the next in the same slot.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError

from data.errors import EngineError
from rl.runtime.hung_processes import end_hung
from rl.runtime.weight_transfer import WeightTransfer
from rollout.actor import EventLog, Heartbeat, RolloutActor
from rollout.engines.base import PublishReport
from rollout.engines.restarting import Weights
from rollout.engines.vllm_settings import VllmSettings


class StartTimeout(EngineError):
    """An engine did not start in time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchSettings:
    """What all engines of a pool have in common."""

    engine: VllmSettings
    tokenizer_dir: Path
    start_seconds: float
    """Longest start of an engine once its actor has been placed."""
    hang_seconds: float
    """Longest time without a heartbeat."""
    logs: Path
    """The run's log folder, for stack dumps of hung processes."""


@dataclass(slots=True)
class EngineSlot:
    """One engine: a Ray actor that may be replaced by another."""

    number: int
    ray_options: dict[str, Any]
    """Where actors of this slot are placed."""
    settings: LaunchSettings
    actor: Any = None
    """Ray handle of the rollout actor."""
    process_ids: tuple[int, ...] = ()
    """Process ids of the actor and its engine; () on another node, where they cannot be signalled."""
    same_node: bool = True
    """Whether the actor runs on the driver's node."""
    up: bool = False
    busy: int = 0
    """Number of groups that run here."""
    events: dict[int, tuple[EventLog, ...]] = field(default_factory=dict)
    """Run -> events of each of its episodes up to the last heartbeat."""
    deaths: int = 0
    """Engine processes of this actor that died."""
    live_limit: int = 0
    """Episodes that the engine allows at once."""
    cache_peak: float = 0.0
    """Highest share of the KV cache held by live calls since the pool's `occupancy` was called."""
    starts: int = 0
    """Actors started since a group last finished here."""

    async def launch(self, transfer: WeightTransfer, latest: Callable[[], Weights | None]) -> None:
        """Start an actor and load the weights that `latest` returns, until there are no newer ones.

        Raises StartTimeout when the engine hangs, RayActorError when the actor dies.
        """
        settings = self.settings
        self.actor = RolloutActor.options(**self.ray_options, max_concurrency=1000).remote(
            settings.engine, settings.tokenizer_dir
        )
        # Placing the actor has no time limit: the cluster may have no room yet.
        node, process = await self.actor.whereabouts.remote()
        self.same_node = node == ray.get_runtime_context().get_node_id()
        self.process_ids, self.deaths = (process,) if self.same_node else (), 0
        try:
            start = self.actor.start.remote(None if self.same_node else transfer.start_files())
            await asyncio.wait_for(start, settings.start_seconds)
        except TimeoutError as error:
            stacks = await end_hung(self.process_ids, settings.logs)
            raise StartTimeout(
                f"engine {self.number} was not up after {settings.start_seconds:g} s (engine.start_seconds)\n"
                f"{stacks}"
            ) from error
        loaded = None
        # The learner may publish while an engine loads.
        while (weights := latest()) is not None and weights is not loaded:
            loaded = weights
            await self.send(weights, transfer)

    async def send(self, weights: Weights, transfer: WeightTransfer) -> PublishReport:
        """Load new weights into the engine. Raises PublishError when it refuses them."""
        content = None if self.same_node else transfer.content(weights)
        report: PublishReport = await self.actor.publish.remote(
            weights.path, weights.version, weights.checksum, content
        )
        return report

    async def heartbeat(self) -> bool:
        """Wait for one heartbeat and record it. -> whether the engine's process died since the last one.

        Raises TimeoutError when the actor hangs, EngineError when its engine cannot be restarted,
        RayActorError when the actor died.
        """
        heartbeat: Heartbeat = await asyncio.wait_for(
            self.actor.heartbeat.remote(), self.settings.hang_seconds
        )
        for run, new in heartbeat.events.items():
            if run in self.events:
                self.events[run] = tuple(old + more for old, more in zip(self.events[run], new, strict=True))
        died = heartbeat.host.deaths > self.deaths
        self.deaths, self.live_limit = heartbeat.host.deaths, heartbeat.host.live_limit
        self.cache_peak = max(self.cache_peak, heartbeat.host.cache_peak)
        if self.same_node:
            self.process_ids = (self.process_ids[0], *heartbeat.host.process_ids)
        return died

    async def end_hung(self) -> str:
        """Kill the processes of a hung actor. -> where their stack traces are."""
        return await end_hung(self.process_ids, self.settings.logs)

    async def close(self) -> None:
        """Shut the engine down; kill it when it does not answer in time."""
        try:
            await asyncio.wait_for(self.actor.shutdown.remote(), self.settings.hang_seconds)
        except RayActorError:
            pass
        except TimeoutError:
            await self.end_hung()

    def kill(self) -> None:
        """Kill the actor, if there is one."""
        if self.actor is not None:
            ray.kill(self.actor)
