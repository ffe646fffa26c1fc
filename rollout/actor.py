"""A Ray actor around an `EpisodeHost`: groups of episodes, heartbeats, and files for other machines.

When the engine's process dies, the host replaces it and the episodes continue. When the actor itself dies,
the engine pool starts another actor and gives it the events that the heartbeats have returned.
"""

import asyncio
import gc
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray

from data.episodes.trajectory import Episode
from data.errors import RewardError
from data.stacks import write_stacks_on_signal
from rollout.commands import EpisodeEvent
from rollout.engines.base import EngineRequest, EngineResult, PublishReport, RestartableEngine
from rollout.engines.vllm_engine import VllmEngine
from rollout.engines.vllm_settings import VllmSettings
from rollout.host import EpisodeHost, HostStatus
from rollout.protocols import AnyParams
from rollout.runner import EpisodeSpec
from rollout.scoring import Scorer, ScoreRequest, TextScores

LOGGED_AFTER_S = 3.0
"""Heartbeats leave out groups that have run for less: running them again is cheap."""

EventLog = tuple[EpisodeEvent, ...]
"""All events of one episode, in order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Heartbeat:
    """Answer of an actor whose engine works."""

    events: dict[int, tuple[EventLog, ...]]
    """New events since the last heartbeat: by run, one log for each of its episodes."""
    host: HostStatus


@dataclass(slots=True)
class _Run:
    """A group that is running."""

    events: list[list[EpisodeEvent]]
    """Events of each episode that no heartbeat has returned yet."""
    began: float = field(default_factory=time.monotonic)
    task: "asyncio.Future[list[Episode]] | None" = None


class RolloutWorker:
    """Class of the actor, undecorated so that it is typed and can run in-process."""

    def __init__(self, settings: VllmSettings, tokenizer_dir: Path) -> None:
        self._settings, self._tokenizer_dir = settings, tokenizer_dir
        self._runs: dict[int, _Run] = {}
        self._host: EpisodeHost
        self._copies: tempfile.TemporaryDirectory[str] | None = None
        """Copies of the driver's files, on a machine that does not share its file system."""

    async def whereabouts(self) -> tuple[str, int]:
        """-> (id of the actor's node, process id)."""
        return str(ray.get_runtime_context().get_node_id()), os.getpid()

    async def start(self, files: Mapping[str, np.ndarray] | None = None) -> None:
        """Start the engine. `files`: content of the model directory (`read_folder`), for a machine that does
        not share the driver's file system.
        """
        write_stacks_on_signal()
        settings, tokenizer_dir = self._settings, self._tokenizer_dir
        if files is not None:
            shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
            self._copies = tempfile.TemporaryDirectory(prefix="braid-", dir=shared)
            tokenizer_dir = Path(self._copies.name) / "start"
            tokenizer_dir.mkdir()
            for name, content in files.items():
                content.tofile(tokenizer_dir / name)
            settings = replace(settings, model_dir=tokenizer_dir)
        self._host = EpisodeHost.with_vllm(settings, tokenizer_dir, self._start_engine)
        await self._host.start()
        # A full garbage collection walks all objects of torch and vLLM (660,000). Meanwhile no result is
        # handled and the engine runs dry. It skips frozen objects.
        gc.collect()
        gc.freeze()

    async def run_group(
        self,
        run: int,
        params: AnyParams,
        specs: Sequence[EpisodeSpec],
        events: Sequence[EventLog] = (),
        scorer: Any = None,
    ) -> list[Episode]:
        """Run the episodes of one group concurrently. `run` is unique on this actor. `events`: the events of
        the episodes on an actor that died. `scorer`: handle of an actor that answers questions about texts.

        Raises EngineError when one engine after the other dies, CancelledError after `drop`.
        """
        group = self._runs[run] = _Run(events=[[] for _ in specs])
        asked: Scorer | None = None if scorer is None else _DistantScorer(scorer)
        group.task = asyncio.gather(
            *(
                self._host.run(params, spec, scorer=asked, prefix=f"{run}:", events=past, on_event=new.append)
                for spec, past, new in zip(specs, events or [()] * len(specs), group.events, strict=True)
            )
        )
        try:
            return list(await group.task)
        finally:
            del self._runs[run]

    async def drop(self, run: int) -> None:
        """Cancel a group and abort its calls."""
        group = self._runs.get(run)
        if group is not None and group.task is not None:
            group.task.cancel()

    async def heartbeat(self) -> Heartbeat:
        """Return as soon as the engine responds; a hanging engine never does."""
        status = await self._host.status()
        events: dict[int, tuple[EventLog, ...]] = {}
        for run, group in self._runs.items():
            if time.monotonic() - group.began > LOGGED_AFTER_S and any(group.events):
                events[run] = tuple(tuple(log) for log in group.events)
                for log in group.events:
                    log.clear()
        return Heartbeat(events=events, host=status)

    async def publish(
        self, path: Path, version: int, checksum: str, content: np.ndarray | None = None
    ) -> PublishReport:
        """Load new weights. `content`: bytes of the file, for a machine that does not see `path`.

        Raises PublishError when not even a new engine can load them.
        """
        if content is None:
            return await self._host.publish(path, version, checksum)
        assert self._copies is not None, "start() had files"
        copies = Path(self._copies.name)
        before = list(copies.glob("*.safetensors"))
        content.tofile(copies / path.name)
        report = await self._host.publish(copies / path.name, version, checksum)
        for old in before:
            old.unlink()
        return report

    async def canary(self, requests: Sequence[EngineRequest]) -> list[EngineResult]:
        """Plain calls, to compare the engine's log-probabilities with the learner's."""
        return list(await asyncio.gather(*map(self._host.generate, requests)))

    async def shutdown(self) -> None:
        """End the engine's processes and remove the copied files."""
        self._host.shutdown()
        if self._copies is not None:
            self._copies.cleanup()

    async def _start_engine(self, settings: VllmSettings) -> RestartableEngine:
        return await VllmEngine.start(settings)


class _DistantScorer:
    """A scorer in another process."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def score(self, request: ScoreRequest) -> TextScores | str:
        """Ask the actor. Raises RewardError when it can score nothing any more."""
        try:
            found: TextScores | str = await self._actor.score.remote(request)
        except RewardError as error:
            # Ray's error has the same type and cannot be sent on as it is.
            raise RewardError(str(error)) from None
        return found


def read_bytes(path: Path) -> np.ndarray:
    """[B] bytes of a file, in a form that Ray's object store passes on without a copy."""
    return np.fromfile(path, dtype=np.uint8)


def read_folder(folder: Path) -> dict[str, np.ndarray]:
    """`read_bytes` of every file in a model directory, by name."""
    return {path.name: read_bytes(path) for path in folder.iterdir() if path.is_file()}


RolloutActor = ray.remote(RolloutWorker)
"""`RolloutActor.options(...).remote(settings, tokenizer_dir)`; all methods share one event loop."""
