"""The episode host: one engine, and the episodes that run on it as coroutines. No Ray; a server can use it.

    host = EpisodeHost.with_vllm(settings, tokenizer_dir)
    await host.start()
    episode = await host.run(params, spec)
    await host.publish(path, version, checksum)
    host.shutdown()

The host does not depend on stages: the protocol comes with each episode, and one engine serves training,
validation and evaluation. An engine process that dies is replaced, and its episodes continue.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

from data.episodes.trajectory import Episode
from data.errors import EngineError
from data.text.codec import Codec, load_codec
from rollout.commands import EpisodeEvent
from rollout.engines.base import EngineRequest, EngineResult, PublishReport, RestartableEngine
from rollout.engines.restarting import RestartingEngine
from rollout.engines.vllm_engine import VllmEngine
from rollout.engines.vllm_settings import VllmSettings, episodes_that_fit
from rollout.give_up import GiveUp
from rollout.live_episodes import LiveEpisodes, LiveLimit
from rollout.protocols import AnyParams, ThinkingProtocol, build_protocol
from rollout.runner import EpisodeSpec, EpisodeWatch, run_episode
from rollout.scoring import Scorer

MOST_PROTOCOLS = 64
"""Protocols that a host keeps built: a server's requests may each have budgets of their own."""
USAGE_S = 0.1
"""Seconds between two measurements of the key-value cache."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HostStatus:
    """State of a host and its engine."""

    process_ids: tuple[int, ...]
    """Ids of the engine's processes."""
    deaths: int
    """Engines that were replaced since the start."""
    live_limit: int
    """Episodes that may be live at once."""
    cache_peak: float
    """Highest share of the key-value cache that live calls held since the last status."""


class EpisodeHost:
    """Runs episodes on one engine and admits as many at once as its key-value cache holds."""

    def __init__(
        self,
        codec: Codec,
        start_engine: Callable[[], Awaitable[RestartableEngine]],
        *,
        start_limit: int,
        max_live: int,
    ) -> None:
        """`start_engine` starts the first engine and its replacements. `start_limit`: live episodes at the
        beginning; `max_live`: most live episodes.
        """
        self.codec = codec
        self._engine = RestartingEngine(start_engine)
        self._live = LiveEpisodes(LiveLimit(start=start_limit, most=max_live))
        self._protocols: dict[str, ThinkingProtocol] = {}
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    def with_vllm(
        cls,
        settings: VllmSettings,
        tokenizer_dir: Path,
        start_engine: Callable[[VllmSettings], Awaitable[RestartableEngine]] = VllmEngine.start,
    ) -> Self:
        """A host of a vLLM engine with the codec of `tokenizer_dir`."""
        codec = load_codec(tokenizer_dir)
        settings = replace(settings, vocabulary=codec.size)
        # More episodes than slots in the batch: a call is ready when a slot becomes free.
        return cls(
            codec,
            partial(start_engine, settings),
            start_limit=episodes_that_fit(settings),
            max_live=2 * settings.max_live_calls,
        )

    async def start(self) -> None:
        """Start the engine. Raises ConfigError or EngineError when it does not start."""
        await self._engine.start()
        self._watching = asyncio.create_task(self._watch_cache())

    async def run(
        self,
        params: AnyParams,
        spec: EpisodeSpec,
        *,
        scorer: Scorer | None = None,
        prefix: str = "",
        events: Sequence[EpisodeEvent] = (),
        on_event: Callable[[EpisodeEvent], None] = lambda _: None,
        watch: EpisodeWatch | None = None,
        give_up: GiveUp | None = None,
    ) -> Episode:
        """Run one episode once there is room for it; arguments as for `run_episode`. When the coroutine is
        cancelled, the calls in flight are aborted, and their tokens lost; `give_up` counts them.

        Raises EngineError when one engine after the other dies.
        """
        protocol = self.protocol(params)
        async with self._live.admit():
            return await run_episode(
                self._engine,
                protocol,
                spec,
                scorer=scorer,
                prefix=prefix,
                events=events,
                on_event=on_event,
                watch=watch,
                give_up=give_up,
            )

    async def generate(self, request: EngineRequest) -> EngineResult:
        """One call outside any episode, for instance a canary."""
        return await self._engine.generate(request)

    async def publish(self, path: Path, version: int, checksum: str) -> PublishReport:
        """Load new weights; episodes continue under them. `path` must stay until the next publication.

        Raises PublishError when not even a new engine can load them.
        """
        return await self._engine.publish(path, version, checksum)

    @property
    def max_length(self) -> int:
        """Longest context + output of one call, in tokens."""
        return self._engine.max_length

    @property
    def occupancy(self) -> tuple[int, int]:
        """-> (episodes that run, episodes that wait for room)."""
        return self._live.limit.live, self._live.num_waiting

    @property
    def deaths(self) -> int:
        """Engines that were replaced since the start."""
        return self._engine.deaths

    @property
    def dead(self) -> bool:
        """Whether the engine is dead and is not replaced any more."""
        return self._engine.dead

    async def status(self) -> HostStatus:
        """Return as soon as the engine responds; a hanging engine never does."""
        await self._engine.probe()
        if self._watching is not None and self._watching.done():
            self._watching.result()
        limit = self._live.limit
        peak, limit.peak = limit.peak, 0.0
        return HostStatus(
            process_ids=self._engine.process_ids,
            deaths=self._engine.deaths,
            live_limit=limit.limit,
            cache_peak=peak,
        )

    def shutdown(self) -> None:
        """End the engine's processes; episodes in flight fail with EngineError."""
        if self._watching is not None:
            self._watching.cancel()
        self._engine.shutdown()

    def protocol(self, params: AnyParams) -> ThinkingProtocol:
        """The protocol of a recipe section for this host's tokenizer, built once."""
        key = params.model_dump_json()
        if key not in self._protocols:
            if len(self._protocols) >= MOST_PROTOCOLS:
                self._protocols.pop(next(iter(self._protocols)))
            self._protocols[key] = build_protocol(params, self.codec)
        return self._protocols[key]

    async def _watch_cache(self) -> None:
        while True:
            await asyncio.sleep(USAGE_S)
            if self._live.limit.live:
                # When the engine is dead, a waiting call replaces it.
                with contextlib.suppress(EngineError):
                    self._live.limit.update_usage(await self._engine.cache_usage())
