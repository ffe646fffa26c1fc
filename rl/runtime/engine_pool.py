"""The engines of a run, seen as one: groups go to the least busy engine, weights go to all.

Every engine sits in a slot. When its actor dies, or hangs, another takes the slot: it begins with the weights
published last, and the groups that were running there go on from the last call they are known to have
finished. Whoever waits for a group sees nothing of it.

    slot up   -- actor dies, or its heartbeats stop -->  down: ended, started anew, weights loaded  -->  up
"""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError

from data.checksum import file_checksum
from data.episodes.trajectory import Episode
from data.errors import EngineError
from rl.runtime.hung_processes import end_hung
from rollout.actor import EventLog, Heartbeat, RolloutActor, read_bytes, read_folder
from rollout.engines.base import EngineRequest, EngineResult
from rollout.engines.restarting import Weights
from rollout.engines.vllm_engine import PublishReport
from rollout.engines.vllm_settings import VllmSettings
from rollout.protocols import AnyParams
from rollout.runner import EpisodeSpec

HEARTBEAT_S = 1.0
"""Between two heartbeats of an actor. Events since the last one are lost with the actor."""
MOST_STARTS = 3
"""Of a slot in a row, without a finished group between them."""

Report = Callable[[str, str], None]
"""(kind, what): told of every fault, for the books and whoever watches."""


class _StartHangs(EngineError):
    """An engine was not up in time."""


@dataclass(slots=True)
class _EngineSlot:
    """One engine's place."""

    number: int
    ray_options: dict[str, Any]
    """Where its actor goes, as Ray's options."""
    actor: Any = None
    process_ids: tuple[int, ...] = ()
    """Of the actor and its engine, to end those that hang; none when they are on another machine."""
    same_node: bool = True
    """On this machine."""
    up: bool = False
    busy: int = 0
    """Groups running here."""
    events: dict[int, tuple[EventLog, ...]] = field(default_factory=dict)
    """By run: the events of its episodes up to the last heartbeat."""
    deaths: int = 0
    live_limit: int = 0
    cache_peak: float = 0.0
    """From the heartbeats; the peak since `occupancy` was asked."""
    starts: int = 0
    """Since the last finished group."""


class EnginePool:
    """All engines. Build it with `start`."""

    def __init__(
        self,
        settings: VllmSettings,
        tokenizer_dir: Path,
        *,
        ray_options: Sequence[dict[str, Any]],
        hang_seconds: float,
        start_seconds: float,
        logs: Path,
        transfer: Path | None = None,
        report: Report = lambda kind, what: None,
    ) -> None:
        """`ray_options`: one set per engine (see `rl.runtime.placement`). `hang_seconds`: an engine without a
        heartbeat for so long is replaced; so is one that takes longer than `start_seconds` to start.
        `logs`: the run's log folder, for stack dumps of hung processes. `transfer`: where learner and driver
        exchange weight files (default: shared memory where there is any).
        """
        self._settings, self._tokenizer_dir = settings, tokenizer_dir
        self._hang_seconds, self._start_seconds, self._logs = hang_seconds, start_seconds, logs
        self._report = report
        self._slots = [
            _EngineSlot(number=number, ray_options=options) for number, options in enumerate(ray_options)
        ]
        self._weights: Weights | None = None
        self._content: tuple[Weights, Any] | None = None
        """Published last, in the object store, for the same."""
        self._start_files: Any = None
        """Of the model directory, in the object store, for engines that do not see it."""
        self._changed = asyncio.Condition()
        self._runs, self._files = itertools.count(), itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        shared = Path("/dev/shm")
        folder = transfer or (shared if shared.is_dir() else None)
        self._transfer_dir = Path(tempfile.mkdtemp(prefix="braid-", dir=folder))
        """Where the learner writes weights for the engines: shared memory where the system has it."""

    @classmethod
    async def start(cls, *arguments: Any, **options: Any) -> "EnginePool":
        """Bring all engines up at once; arguments as for the class.

        Raises EngineError or ConfigError when one cannot be started.
        """
        pool = cls(*arguments, **options)
        try:
            await asyncio.gather(*(pool._start_actor(slot) for slot in pool._slots))
        except BaseException:
            await pool.close()
            raise
        for slot in pool._slots:
            pool._spawn(pool._watch_heartbeat(slot))
        return pool

    def new_file(self) -> Path:
        """Where to write the next weights; never the name of a file that an engine may still read."""
        return self._transfer_dir / f"{next(self._files)}.safetensors"

    @property
    def process_ids(self) -> list[int]:
        """Of all actors and engines, as last heard."""
        return [process for slot in self._slots for process in slot.process_ids]

    def occupancy(self) -> dict[str, float]:
        """Metrics, since they were asked for last: episodes that all engines allow at once, and the highest
        share of a key-value cache that live calls held.
        """
        limit, peak = sum(slot.live_limit for slot in self._slots), max(s.cache_peak for s in self._slots)
        for slot in self._slots:
            slot.cache_peak = 0.0
        return {"time/live_episodes_limit": float(limit), "time/kv_cache_peak": peak}

    async def run_group(
        self,
        params: AnyParams,
        specs: Sequence[EpisodeSpec],
        moved: Callable[[str], None] = lambda engine: None,
    ) -> tuple[list[Episode], Any]:
        """-> (episodes, their object reference, for whoever scores them). `moved` is told each time the group
        goes on another engine, and which.

        Raises EngineError when engines die one after the other.
        """
        run = next(self._runs)
        events: tuple[EventLog, ...] = tuple(() for _ in specs)
        lost = False
        while True:
            slot = await self._free_slot()
            actor = slot.actor
            if lost:
                moved(str(slot.number))
            slot.events[run] = events
            slot.busy += 1
            try:
                reference = actor.run_group.remote(run, params, specs, events)
                episodes = await reference
            except RayActorError:
                events, lost = slot.events[run], True
                self._mark_down(slot, actor, "died")
            except asyncio.CancelledError:
                actor.drop.remote(run)
                raise
            else:
                slot.starts = 0
                return episodes, reference
            finally:
                slot.busy -= 1
                slot.events.pop(run, None)

    async def publish(self, path: Path, version: int, checksum: str) -> list[PublishReport]:
        """New weights to every engine; in-flight episodes go on. A slot that is down gets them when it is up
        again. The file must stay until the next one has been published; one of `new_file` is removed then.

        Raises PublishError when an engine refused them, and the one that replaced it.
        """
        self._weights = Weights(path=path, version=version, checksum=checksum)
        slots = [slot for slot in self._slots if slot.up]
        reports = await asyncio.gather(*(self._publish_to(slot) for slot in slots))
        # All down: sampling waits for one of them anyway.
        await self._free_slot()
        if all(slot.up for slot in self._slots):
            for old in self._transfer_dir.iterdir():
                if old != path:
                    old.unlink()
        return [report for report in reports if report is not None]

    async def load(self, model_dir: Path, version: int) -> None:
        """A saved model to every engine."""
        path = model_dir / "model.safetensors"
        await self.publish(path, version, file_checksum(path))

    async def canary(self, request: EngineRequest) -> list[EngineResult]:
        """The same request to every engine that is up."""
        slots = [slot for slot in self._slots if slot.up]
        answers = await asyncio.gather(*(self._canary_of(slot, request) for slot in slots))
        return [answer for answer in answers if answer is not None]

    async def close(self) -> None:
        """End all engines and remove the transfer folder."""
        self.abandon()
        # An actor that is still to take its slot may wait for a free place for ever: it is not asked.
        try:
            await asyncio.gather(*(self._end(slot) for slot in self._slots if slot.up))
        finally:
            for slot in self._slots:
                if slot.actor is not None:
                    ray.kill(slot.actor)

    async def _end(self, slot: _EngineSlot) -> None:
        try:
            await asyncio.wait_for(slot.actor.shutdown.remote(), self._hang_seconds)
        except RayActorError:
            pass
        except TimeoutError:
            await end_hung(slot.process_ids, self._logs)

    def abandon(self) -> None:
        """All that is left to do when the whole cluster is gone."""
        for task in self._tasks:
            task.cancel()
        shutil.rmtree(self._transfer_dir, ignore_errors=True)

    async def _free_slot(self) -> _EngineSlot:
        """The least busy slot that is up; waits for one."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._failure is not None or any(slot.up for slot in self._slots)
            )
        if self._failure is not None:
            raise self._failure
        return min((slot for slot in self._slots if slot.up), key=lambda slot: slot.busy)

    async def _canary_of(self, slot: _EngineSlot, request: EngineRequest) -> EngineResult | None:
        actor = slot.actor
        try:
            answer: EngineResult = await actor.canary.remote(request)
        except RayActorError:
            self._mark_down(slot, actor, "died")
            return None
        return answer

    async def _publish_to(self, slot: _EngineSlot) -> PublishReport | None:
        actor = slot.actor
        assert self._weights is not None
        weights = self._weights
        try:
            return await self._send(slot, weights)
        except RayActorError:
            self._mark_down(slot, actor, "died")
            return None

    async def _send(self, slot: _EngineSlot, weights: Weights) -> PublishReport:
        """By name where the engine sees the file, else through the object store."""
        content = None
        if not slot.same_node:
            if self._content is None or self._content[0] is not weights:
                self._content = (weights, ray.put(read_bytes(weights.path)))
            content = self._content[1]
        report: PublishReport = await slot.actor.publish.remote(
            weights.path, weights.version, weights.checksum, content
        )
        return report

    async def _start_actor(self, slot: _EngineSlot) -> None:
        """A new actor, at the last weights."""
        slot.actor = RolloutActor.options(**slot.ray_options, max_concurrency=1000).remote(
            self._settings, self._tokenizer_dir
        )
        # It may wait for a free place for as long as it takes; then its time runs.
        node, process = await slot.actor.whereabouts.remote()
        slot.same_node = node == ray.get_runtime_context().get_node_id()
        slot.process_ids, slot.deaths = (process,) if slot.same_node else (), 0
        if not slot.same_node and self._start_files is None:
            self._start_files = ray.put(read_folder(self._settings.model_dir))
        try:
            start = slot.actor.start.remote(None if slot.same_node else self._start_files)
            await asyncio.wait_for(start, self._start_seconds)
        except TimeoutError as error:
            stacks = await end_hung(slot.process_ids, self._logs)
            raise _StartHangs(
                f"engine {slot.number} was not up after {self._start_seconds:g} s (engine.start_seconds)\n"
                f"{stacks}"
            ) from error
        loaded = None
        # The learner may publish meanwhile.
        while self._weights is not None and self._weights is not loaded:
            loaded = self._weights
            await self._send(slot, loaded)
        async with self._changed:
            slot.up = True
            self._changed.notify_all()

    def _mark_down(self, slot: _EngineSlot, actor: Any, what: str) -> None:
        """Something has shown that this actor is gone. Its slot is taken again, once."""
        if slot.actor is not actor or not slot.up:
            return
        slot.up = False
        self._report("engine", f"the actor of engine {slot.number} {what}; another takes its place")
        self._spawn(self._replace(slot))

    async def _replace(self, slot: _EngineSlot) -> None:
        while True:
            slot.starts += 1
            ray.kill(slot.actor)
            try:
                if slot.starts > MOST_STARTS:
                    raise EngineError(
                        f"engine {slot.number}: its actor and {MOST_STARTS} that followed it died one after "
                        "the other; the run directory's logs and Ray's session folder may say why"
                    )
                await self._start_actor(slot)
                return
            except RayActorError:
                continue
            except _StartHangs as error:
                self._report("engine", str(error))

    async def _watch_heartbeat(self, slot: _EngineSlot) -> None:
        """Awaits the heartbeats of a slot until the pool is closed."""
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            if not slot.up:
                continue
            actor = slot.actor
            try:
                heartbeat: Heartbeat = await asyncio.wait_for(actor.heartbeat.remote(), self._hang_seconds)
            except RayActorError:
                self._mark_down(slot, actor, "died")
            except EngineError as error:
                self._mark_down(slot, actor, f"has no engine any more ({error})")
            except TimeoutError:
                stacks = await end_hung(slot.process_ids, self._logs)
                self._mark_down(slot, actor, f"gave no sign of life for {self._hang_seconds:g} s\n{stacks}")
            else:
                self._on_heartbeat(slot, heartbeat)

    def _on_heartbeat(self, slot: _EngineSlot, heartbeat: Heartbeat) -> None:
        for run, new in heartbeat.events.items():
            if run in slot.events:
                slot.events[run] = tuple(old + more for old, more in zip(slot.events[run], new, strict=True))
        if heartbeat.deaths > slot.deaths:
            self._report("engine", f"the process of engine {slot.number} died; another took its place")
        slot.deaths, slot.live_limit = heartbeat.deaths, heartbeat.live_limit
        slot.cache_peak = max(slot.cache_peak, heartbeat.cache_peak)
        if slot.same_node:
            slot.process_ids = (slot.process_ids[0], *heartbeat.process_ids)

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_end)

    def _on_task_end(self, task: "asyncio.Task[None]") -> None:
        """Whatever a background task fails of, the run hears of it, or a slot would stay empty for ever."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
            self._spawn(self._notify())

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
