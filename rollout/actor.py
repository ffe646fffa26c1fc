"""A Ray actor that hosts one vLLM engine and runs many episodes on it as coroutines.

It knows nothing of stages: the protocol comes with each group, so the same engine serves reinforcement
learning, validation and evaluation, and a checkpoint is just another publish. When the engine's process dies,
the actor starts another and its episodes go on; when the actor itself dies, whoever asked for the episodes
starts another actor and hands it the events that `heartbeat` has returned.
"""

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import ray

from data.episodes.trajectory import Episode
from data.errors import EngineError
from data.stacks import write_stacks_on_signal
from data.text.tokenizer import Codec, load_codec
from rollout.commands import EpisodeEvent
from rollout.engines.base import EngineRequest, EngineResult
from rollout.engines.restarting import RestartingEngine
from rollout.engines.vllm_engine import PublishReport, VllmEngine
from rollout.engines.vllm_settings import VllmSettings, episodes_that_fit
from rollout.live_episodes import LiveEpisodes, LiveLimit
from rollout.protocols import AnyParams, ThinkingProtocol, build_protocol
from rollout.runner import EpisodeSpec, run_episode

USAGE_S = 0.1
"""Between two questions to the engine how full its key-value cache is."""
LOGGED_AFTER_S = 3.0
"""Episodes that have run for less are not worth telling of: they are cheap to run again."""

EventLog = tuple[EpisodeEvent, ...]
"""All events of one episode, in order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Heartbeat:
    """What an actor says of itself when asked."""

    events: dict[int, tuple[EventLog, ...]]
    """By run: the new events of each of its episodes since the last heartbeat."""
    process_ids: tuple[int, ...]
    """Of the engine's own processes, now."""
    deaths: int
    """Engines of this actor that were replaced."""
    live_limit: int
    """Episodes that may be live at once, now."""
    cache_peak: float
    """Highest share of the key-value cache that live calls held since the last heartbeat."""


@dataclass(slots=True)
class _Run:
    """A group at work."""

    events: list[list[EpisodeEvent]]
    began: float = field(default_factory=time.monotonic)
    task: "asyncio.Future[list[Episode]] | None" = None


class RolloutWorker:
    """The actor's class, undecorated so that it can be typed and run in-process too. See
    `start_rollout_actor`.
    """

    def __init__(self, settings: VllmSettings, tokenizer_dir: Path) -> None:
        self._settings, self._tokenizer_dir = settings, tokenizer_dir
        self._protocols: dict[str, ThinkingProtocol] = {}
        self._runs: dict[int, _Run] = {}
        self._codec: Codec
        self._engine: RestartingEngine
        self._live: LiveEpisodes
        self._listening: asyncio.Task[None] | None = None
        self._own: tempfile.TemporaryDirectory[str] | None = None
        """For what this machine cannot see of the driver's files; none when it can."""

    async def whereabouts(self) -> tuple[str, int]:
        """-> (id of the node it was placed on, process id)."""
        return str(ray.get_runtime_context().get_node_id()), os.getpid()

    async def start(self, files: Mapping[str, np.ndarray] | None = None) -> None:
        """Bring the engine up. `files`: of the model directory (`read_folder`), for a machine that does not
        see it.
        """
        write_stacks_on_signal()
        settings, tokenizer_dir = self._settings, self._tokenizer_dir
        if files is not None:
            shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
            self._own = tempfile.TemporaryDirectory(prefix="braid-", dir=shared)
            tokenizer_dir = Path(self._own.name) / "start"
            tokenizer_dir.mkdir()
            for name, content in files.items():
                content.tofile(tokenizer_dir / name)
            settings = replace(settings, model_dir=tokenizer_dir)
        self._codec = load_codec(tokenizer_dir)
        self._engine = RestartingEngine(partial(self._start_engine, settings))
        await self._engine.start()
        # Some wait beside those that are decoded, so that a free place in the batch is taken at once.
        limit = LiveLimit(start=episodes_that_fit(settings), most=2 * settings.max_live_calls)
        self._live = LiveEpisodes(limit)
        self._listening = asyncio.create_task(self._listen())

    async def run_group(
        self, run: int, params: AnyParams, specs: Sequence[EpisodeSpec], events: Sequence[EventLog] = ()
    ) -> list[Episode]:
        """Run the episodes of one group at once. `run` is unique on this actor; `events`: what
        the episodes went through on an actor that died.

        Raises EngineError when one engine dies after the other, CancelledError after `drop`.
        """
        protocol = self._protocol(params)
        mine = self._runs[run] = _Run(events=[[] for _ in specs])
        episodes = [
            self._run_episode(protocol, spec, f"{run}:", past, mine.events[index].append)
            for index, (spec, past) in enumerate(zip(specs, events or [()] * len(specs), strict=True))
        ]
        mine.task = asyncio.gather(*episodes)
        try:
            return list(await mine.task)
        finally:
            del self._runs[run]

    async def drop(self, run: int) -> None:
        """Nobody waits for this run any more: its calls are aborted."""
        mine = self._runs.get(run)
        if mine is not None and mine.task is not None:
            mine.task.cancel()

    async def heartbeat(self) -> Heartbeat:
        """Answers once the engine is seen to work; never, when it hangs."""
        await self._engine.probe()
        events: dict[int, tuple[EventLog, ...]] = {}
        for number, run in self._runs.items():
            if time.monotonic() - run.began > LOGGED_AFTER_S and any(run.events):
                events[number] = tuple(tuple(log) for log in run.events)
                for log in run.events:
                    log.clear()
        if self._listening is not None and self._listening.done():
            self._listening.result()
        limit = self._live.limit
        peak, limit.peak = limit.peak, 0.0
        return Heartbeat(
            events=events,
            process_ids=self._engine.process_ids,
            deaths=self._engine.deaths,
            live_limit=limit.limit,
            cache_peak=peak,
        )

    async def publish(
        self, path: Path, version: int, checksum: str, content: np.ndarray | None = None
    ) -> PublishReport:
        """New weights; `content`: the file's, for a machine that does not see it.

        Raises PublishError when not even a new engine can take them.
        """
        if content is None:
            return await self._engine.publish(path, version, checksum)
        assert self._own is not None, "start() had files"
        own = Path(self._own.name)
        before = list(own.glob("*.safetensors"))
        content.tofile(own / path.name)
        report = await self._engine.publish(own / path.name, version, checksum)
        for old in before:
            old.unlink()
        return report

    async def canary(self, request: EngineRequest) -> EngineResult:
        """One plain request, to compare the engine's log-probabilities with the learner's."""
        return await self._engine.generate(request)

    async def shutdown(self) -> None:
        """End the engine's processes."""
        if self._listening is not None:
            self._listening.cancel()
        self._engine.shutdown()
        if self._own is not None:
            self._own.cleanup()

    async def _start_engine(self, settings: VllmSettings) -> VllmEngine:
        return await VllmEngine.start(settings)

    async def _run_episode(
        self,
        protocol: ThinkingProtocol,
        spec: EpisodeSpec,
        prefix: str,
        events: EventLog,
        on_event: Callable[[EpisodeEvent], None],
    ) -> Episode:
        async with self._live.one():
            return await run_episode(
                self._engine, protocol, spec, prefix=prefix, events=events, on_event=on_event
            )

    async def _listen(self) -> None:
        """Keeps the number of live episodes to what the engine has room for."""
        while True:
            await asyncio.sleep(USAGE_S)
            if self._live.limit.live:
                with contextlib.suppress(EngineError):  # dead: whoever waits for a call sees to that
                    self._live.limit.hear(await self._engine.cache_usage())

    def _protocol(self, params: AnyParams) -> ThinkingProtocol:
        key = params.model_dump_json()
        if key not in self._protocols:
            self._protocols[key] = build_protocol(params, self._codec)
        return self._protocols[key]


def read_bytes(path: Path) -> np.ndarray:
    """[B] a file's bytes, in a form that Ray's object store hands on without a copy."""
    return np.fromfile(path, dtype=np.uint8)


def read_folder(folder: Path) -> dict[str, np.ndarray]:
    """`read_bytes` of every file in a model directory."""
    return {path.name: read_bytes(path) for path in folder.iterdir() if path.is_file()}


RolloutActor = ray.remote(RolloutWorker)
"""`RolloutActor.options(...).remote(settings, tokenizer_dir)`; all methods are coroutines of one event
loop.
"""
