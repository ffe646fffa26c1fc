"""The engines of a run, seen as one: groups go to the least busy engine, weights go to all.

Every engine sits in a seat. When its actor dies, or hangs, another takes the seat: it begins with the weights
published last, and the groups that were running there go on from the last call they are known to have
finished. Whoever waits for a group sees nothing of it.

    seat up   -- actor dies, or its pulse stops -->  down: ended, started anew, weights loaded  -->  up
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

PULSE_S = 1.0
"""Between two pulses of an actor; what an episode was told since the last one is lost with the actor."""
MOST_STARTS = 3
"""Of a seat in a row, without a finished group between them."""

Report = Callable[[str, str], None]
"""(kind, what): told of every fault, for the books and whoever watches."""


class _StartHangs(EngineError):
    """An engine was not up in time."""


@dataclass(slots=True)
class _EngineSlot:
    """One engine's place."""

    number: int
    place: dict[str, Any]
    """Where its actor goes, as Ray's options."""
    actor: Any = None
    process_ids: tuple[int, ...] = ()
    """Of the actor and its engine, to end those that hang; none when they are on another machine."""
    near: bool = True
    """On this machine."""
    up: bool = False
    busy: int = 0
    """Groups running here."""
    told: dict[int, tuple[EventLog, ...]] = field(default_factory=dict)
    """By run: what its episodes were told, as far as pulses have said."""
    deaths: int = 0
    live_limit: int = 0
    cache_peak: float = 0.0
    """As the pulses say; the peak since `occupancy` was asked."""
    starts: int = 0
    """Since the last finished group."""


class EnginePool:
    """All engines. Build it with `start`."""

    def __init__(
        self,
        settings: VllmSettings,
        tokenizer_dir: Path,
        *,
        places: Sequence[dict[str, Any]],
        hang_seconds: float,
        start_seconds: float,
        logs: Path,
        transfer: Path | None = None,
        report: Report = lambda kind, what: None,
    ) -> None:
        """`places`: of one engine each (`rl.runtime.placement`); `hang_seconds`: an engine that gives no sign
        of life for so long counts as dead, as does one that is not up after `start_seconds`; `logs`: the
        run's, where its processes write their stacks when asked; `transfer`: where learner and driver
        see each other's files, shared memory where there is any.
        """
        self._settings, self._tokenizer_dir = settings, tokenizer_dir
        self._hang_seconds, self._start_seconds, self._logs = hang_seconds, start_seconds, logs
        self._tell = report
        self._seats = [_EngineSlot(number=number, place=place) for number, place in enumerate(places)]
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
        fleet = cls(*arguments, **options)
        try:
            await asyncio.gather(*(fleet._occupy(seat) for seat in fleet._seats))
        except BaseException:
            await fleet.shutdown()
            raise
        for seat in fleet._seats:
            fleet._keep(fleet._watch(seat))
        return fleet

    def new_file(self) -> Path:
        """Where to write the next weights; never the name of a file that an engine may still read."""
        return self._transfer_dir / f"{next(self._files)}.safetensors"

    @property
    def process_ids(self) -> list[int]:
        """Of all actors and engines, as last heard."""
        return [process for seat in self._seats for process in seat.process_ids]

    def occupancy(self) -> dict[str, float]:
        """Metrics, since they were asked for last: episodes that all engines allow at once, and the highest
        share of a key-value cache that live calls held.
        """
        limit, peak = sum(seat.live_limit for seat in self._seats), max(s.cache_peak for s in self._seats)
        for seat in self._seats:
            seat.cache_peak = 0.0
        return {"time/live_episodes_limit": float(limit), "time/kv_cache_peak": peak}

    async def run_group(
        self,
        params: AnyParams,
        tasks: Sequence[EpisodeSpec],
        moved: Callable[[str], None] = lambda engine: None,
    ) -> tuple[list[Episode], Any]:
        """-> (episodes, their object reference, for whoever scores them). `moved` is told each time the group
        goes on another engine, and which.

        Raises EngineError when engines die one after the other.
        """
        run = next(self._runs)
        told: tuple[EventLog, ...] = tuple(() for _ in tasks)
        lost = False
        while True:
            seat = await self._free_seat()
            actor = seat.actor
            if lost:
                moved(str(seat.number))
            seat.told[run] = told
            seat.busy += 1
            try:
                reference = actor.run_group.remote(run, params, tasks, told)
                episodes = await reference
            except RayActorError:
                told, lost = seat.told[run], True
                self._lost(seat, actor, "died")
            except asyncio.CancelledError:
                actor.drop.remote(run)
                raise
            else:
                seat.starts = 0
                return episodes, reference
            finally:
                seat.busy -= 1
                seat.told.pop(run, None)

    async def publish(self, path: Path, version: int, checksum: str) -> list[PublishReport]:
        """New weights to every engine; in-flight episodes go on. A seat that is down gets them when it is up
        again. The file must stay until the next one has been published; one of `new_file` is removed then.

        Raises PublishError when an engine refused them, and the one that replaced it.
        """
        self._weights = Weights(path=path, version=version, checksum=checksum)
        seats = [seat for seat in self._seats if seat.up]
        reports = await asyncio.gather(*(self._publish_to(seat) for seat in seats))
        # All down: sampling waits for one of them anyway.
        await self._free_seat()
        if all(seat.up for seat in self._seats):
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
        seats = [seat for seat in self._seats if seat.up]
        answers = await asyncio.gather(*(self._canary_of(seat, request) for seat in seats))
        return [answer for answer in answers if answer is not None]

    async def shutdown(self) -> None:
        """End all engines and remove the transfer folder."""
        self.forget()
        # An actor that is still to take its seat may wait for a free place for ever: it is not asked.
        try:
            await asyncio.gather(*(self._end(seat) for seat in self._seats if seat.up))
        finally:
            for seat in self._seats:
                if seat.actor is not None:
                    ray.kill(seat.actor)

    async def _end(self, seat: _EngineSlot) -> None:
        try:
            await asyncio.wait_for(seat.actor.shutdown.remote(), self._hang_seconds)
        except RayActorError:
            pass
        except TimeoutError:
            await end_hung(seat.process_ids, self._logs)

    def forget(self) -> None:
        """All that is left to do when the whole cluster is gone."""
        for task in self._tasks:
            task.cancel()
        shutil.rmtree(self._transfer_dir, ignore_errors=True)

    async def _free_seat(self) -> _EngineSlot:
        """The least busy seat that is up; waits for one."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._failure is not None or any(seat.up for seat in self._seats)
            )
        if self._failure is not None:
            raise self._failure
        return min((seat for seat in self._seats if seat.up), key=lambda seat: seat.busy)

    async def _canary_of(self, seat: _EngineSlot, request: EngineRequest) -> EngineResult | None:
        actor = seat.actor
        try:
            answer: EngineResult = await actor.canary.remote(request)
        except RayActorError:
            self._lost(seat, actor, "died")
            return None
        return answer

    async def _publish_to(self, seat: _EngineSlot) -> PublishReport | None:
        actor = seat.actor
        assert self._weights is not None
        weights = self._weights
        try:
            return await self._send(seat, weights)
        except RayActorError:
            self._lost(seat, actor, "died")
            return None

    async def _send(self, seat: _EngineSlot, weights: Weights) -> PublishReport:
        """By name where the engine sees the file, else through the object store."""
        content = None
        if not seat.near:
            if self._content is None or self._content[0] is not weights:
                self._content = (weights, ray.put(read_bytes(weights.path)))
            content = self._content[1]
        report: PublishReport = await seat.actor.publish.remote(
            weights.path, weights.version, weights.checksum, content
        )
        return report

    async def _occupy(self, seat: _EngineSlot) -> None:
        """A new actor, at the last weights."""
        seat.actor = RolloutActor.options(**seat.place, max_concurrency=1000).remote(
            self._settings, self._tokenizer_dir
        )
        # It may wait for a free place for as long as it takes; then its time runs.
        node, process = await seat.actor.whereabouts.remote()
        seat.near = node == ray.get_runtime_context().get_node_id()
        seat.process_ids, seat.deaths = (process,) if seat.near else (), 0
        if not seat.near and self._start_files is None:
            self._start_files = ray.put(read_folder(self._settings.model_dir))
        try:
            start = seat.actor.start.remote(None if seat.near else self._start_files)
            await asyncio.wait_for(start, self._start_seconds)
        except TimeoutError as error:
            stacks = await end_hung(seat.process_ids, self._logs)
            raise _StartHangs(
                f"engine {seat.number} was not up after {self._start_seconds:g} s (engine.start_seconds)\n"
                f"{stacks}"
            ) from error
        loaded = None
        # The learner may publish meanwhile.
        while self._weights is not None and self._weights is not loaded:
            loaded = self._weights
            await self._send(seat, loaded)
        async with self._changed:
            seat.up = True
            self._changed.notify_all()

    def _lost(self, seat: _EngineSlot, actor: Any, what: str) -> None:
        """Something has shown that this actor is gone. Its seat is taken again, once."""
        if seat.actor is not actor or not seat.up:
            return
        seat.up = False
        self._tell("engine", f"the actor of engine {seat.number} {what}; another takes its place")
        self._keep(self._replace(seat))

    async def _replace(self, seat: _EngineSlot) -> None:
        while True:
            seat.starts += 1
            ray.kill(seat.actor)
            try:
                if seat.starts > MOST_STARTS:
                    raise EngineError(
                        f"engine {seat.number}: its actor and {MOST_STARTS} that followed it died one after "
                        "the other; the run directory's logs and Ray's session folder may say why"
                    )
                await self._occupy(seat)
                return
            except RayActorError:
                continue
            except _StartHangs as error:
                self._tell("engine", str(error))

    async def _watch(self, seat: _EngineSlot) -> None:
        """Hears the seat's pulse, as long as the fleet lives."""
        while True:
            await asyncio.sleep(PULSE_S)
            if not seat.up:
                continue
            actor = seat.actor
            try:
                pulse: Heartbeat = await asyncio.wait_for(actor.pulse.remote(), self._hang_seconds)
            except RayActorError:
                self._lost(seat, actor, "died")
            except EngineError as error:
                self._lost(seat, actor, f"has no engine any more ({error})")
            except TimeoutError:
                stacks = await end_hung(seat.process_ids, self._logs)
                self._lost(seat, actor, f"gave no sign of life for {self._hang_seconds:g} s\n{stacks}")
            else:
                self._hear(seat, pulse)

    def _hear(self, seat: _EngineSlot, pulse: Heartbeat) -> None:
        for run, new in pulse.told.items():
            if run in seat.told:
                seat.told[run] = tuple(old + more for old, more in zip(seat.told[run], new, strict=True))
        if pulse.deaths > seat.deaths:
            self._tell("engine", f"the process of engine {seat.number} died; another took its place")
        seat.deaths, seat.live_limit = pulse.deaths, pulse.live_limit
        seat.cache_peak = max(seat.cache_peak, pulse.cache_peak)
        if seat.near:
            seat.process_ids = (seat.process_ids[0], *pulse.process_ids)

    def _keep(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """Whatever a background task fails of, the run hears of it, or a seat would stay empty for ever."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
            self._keep(self._wake())

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()
