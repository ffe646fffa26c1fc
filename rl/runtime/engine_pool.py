"""Pool of a run's engines: a group goes to the least busy engine, weights go to all of them.

Each engine has a slot (`rl.runtime.engine_slot`). When its actor dies or hangs, another actor is started in
the slot and loads the weights published last. The groups that ran there continue, on any engine, from the
last call that a heartbeat has reported as finished.

    task                produces             consumes           waits for            is unblocked by
    ------------------  -------------------  -----------------  -------------------  ------------------------
    run_group, one a    specs and events     an engine's        a slot that is up    a launch, or the failure
      group (controller)  for an actor         episodes                                of a task
    publish, one a      weights, version     a report per       every slot that is   the engines' reports,
      step (controller)                        engine             up                   or their death
    canary              requests             answers per        as publish           as publish
      (controller)                             engine
    _watch, one a slot  `events`, metrics,   heartbeats         the next heartbeat   the actor, or the limit
                          `_mark_down`                                                 `hang_seconds`
    _replace, one a     an actor with the    the weights        its placement and    Ray; it fails after
      slot that is down   latest weights       published last     its start            MOST_STARTS

    slot up  -- actor dies, or no heartbeat in time -->  down  -- actor started, weights loaded -->  up

A failed task ends every wait: `run_group` and `publish` raise its error.
"""

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ray.exceptions import RayActorError

from data.checksum import file_checksum
from data.episodes.trajectory import Episode
from data.errors import EngineError
from rl.controller.seams import EpisodesReference
from rl.runtime.engine_slot import EngineSlot, LaunchSettings, StartTimeout
from rl.runtime.weight_transfer import WeightTransfer
from rollout.actor import EventLog
from rollout.engines.base import EngineRequest, EngineResult, PublishReport
from rollout.engines.restarting import Weights
from rollout.protocols import AnyParams
from rollout.runner import EpisodeSpec

HEARTBEAT_S = 1.0
"""Seconds between two heartbeats of an actor. Events since the last one are lost with the actor."""
MOST_STARTS = 3
"""Actors started in a slot in a row, without a finished group between them, before the run ends."""

Answer = TypeVar("Answer")
Report = Callable[[str, str], None]
"""(kind, message) of a fault, for the ledger and the console."""


class EnginePool:
    """All engines of a run. Build it with `start`."""

    def __init__(
        self,
        settings: LaunchSettings,
        *,
        ray_options: Sequence[dict[str, Any]],
        transfer: Path | None = None,
        report: Report = lambda kind, message: None,
    ) -> None:
        """ray_options: one set per engine (`rl.runtime.placement`). transfer: directory for published weights
        (see `WeightTransfer`).
        """
        self._report = report
        self._slots = [
            EngineSlot(number=number, ray_options=options, settings=settings)
            for number, options in enumerate(ray_options)
        ]
        self._transfer = WeightTransfer(settings.engine.model_dir, transfer)
        self._weights: Weights | None = None
        self._scorer: Any = None
        """The weights published last."""
        self._changed = asyncio.Condition()
        """Notified when a slot is up and when a task has failed."""
        self._runs = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    @classmethod
    async def start(
        cls,
        settings: LaunchSettings,
        *,
        ray_options: Sequence[dict[str, Any]],
        transfer: Path | None = None,
        report: Report = lambda kind, message: None,
    ) -> "EnginePool":
        """Start all engines; arguments as for the class.

        Raises EngineError or ConfigError when one cannot be started.
        """
        pool = cls(settings, ray_options=ray_options, transfer=transfer, report=report)
        try:
            await asyncio.gather(*(pool._launch(slot) for slot in pool._slots))
        except BaseException:
            await pool.close()
            raise
        for slot in pool._slots:
            pool._spawn(pool._watch(slot))
        return pool

    def new_file(self) -> Path:
        """A fresh path where the learner writes the next weights."""
        return self._transfer.new_file()

    def use_scorer(self, scorer: object | None) -> None:
        """The actor that episodes ask from now on (`rl.runtime.scorer_desk`), or none."""
        self._scorer = scorer

    @property
    def process_ids(self) -> list[int]:
        """Process ids of all actors and engines of this node, as of the last heartbeats."""
        return [process for slot in self._slots for process in slot.process_ids]

    def occupancy(self) -> dict[str, float]:
        """Metrics since the last call: episodes that all engines allow at once, and the highest share of a
        KV cache that live calls held.
        """
        limit, peak = sum(slot.live_limit for slot in self._slots), max(s.cache_peak for s in self._slots)
        for slot in self._slots:
            slot.cache_peak = 0.0
        return {"time/live_episodes_limit": float(limit), "time/kv_cache_peak": peak}

    async def run_group(
        self,
        params: AnyParams,
        specs: Sequence[EpisodeSpec],
        on_move: Callable[[str], None] = lambda engine: None,
    ) -> tuple[list[Episode], EpisodesReference]:
        """Run the episodes of one group on one engine. -> (episodes, their handle in the object store).

        on_move: called with the engine's name whenever the group continues on another engine. Raises
        EngineError when engines die one after the other.
        """
        run = next(self._runs)
        events: tuple[EventLog, ...] = tuple(() for _ in specs)
        moved = False
        while True:
            slot = await self._free_slot()
            actor = slot.actor
            if moved:
                on_move(str(slot.number))
            slot.events[run] = events
            slot.busy += 1
            try:
                reference = actor.run_group.remote(run, params, specs, events, self._scorer)
                episodes = await reference
            except RayActorError:
                events, moved = slot.events[run], True
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
        """Load new weights into every engine; in-flight episodes go on. -> a report per engine that was up.

        A slot that is down loads them when it is up again. The file must stay until the next one has been
        published; files of `new_file` are then removed. Raises PublishError when an engine refuses the
        weights.
        """
        weights = self._weights = Weights(path=path, version=version, checksum=checksum)
        reports = await self._ask_all(lambda slot: slot.send(weights, self._transfer))
        # When all are down, sampling waits for one of them anyway.
        await self._free_slot()
        if all(slot.up for slot in self._slots):
            self._transfer.remove_all_but(path)
        return reports

    async def load(self, model_dir: Path, version: int) -> None:
        """Publish a saved model to every engine."""
        path = model_dir / "model.safetensors"
        await self.publish(path, version, file_checksum(path))

    async def canary(self, requests: Sequence[EngineRequest]) -> list[list[EngineResult]]:
        """Send the same requests to every engine that is up. -> the answers of each."""

        async def ask(slot: EngineSlot) -> list[EngineResult]:
            answers: list[EngineResult] = await slot.actor.canary.remote(requests)
            return answers

        return await self._ask_all(ask)

    async def close(self) -> None:
        """End all engines and remove the transfer directory."""
        self.abandon()
        try:
            # Only those that are up: an actor that is not placed yet would never answer.
            await asyncio.gather(*(slot.close() for slot in self._slots if slot.up))
        finally:
            for slot in self._slots:
                slot.kill()

    def abandon(self) -> None:
        """Stop the pool's tasks and remove the transfer directory, when the cluster is gone."""
        for task in self._tasks:
            task.cancel()
        self._transfer.close()

    async def _free_slot(self) -> EngineSlot:
        """Wait for a slot that is up. -> the least busy one. Raises the error of a failed task."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._failure is not None or any(slot.up for slot in self._slots)
            )
        if self._failure is not None:
            raise self._failure
        return min((slot for slot in self._slots if slot.up), key=lambda slot: slot.busy)

    async def _ask_all(self, ask: Callable[[EngineSlot], Coroutine[Any, Any, Answer]]) -> list[Answer]:
        """Ask every slot that is up. -> the answers of those that did not die meanwhile."""

        async def ask_one(slot: EngineSlot) -> list[Answer]:
            actor = slot.actor
            try:
                return [await ask(slot)]
            except RayActorError:
                self._mark_down(slot, actor, "died")
                return []

        answers = await asyncio.gather(*(ask_one(slot) for slot in self._slots if slot.up))
        return [answer for one in answers for answer in one]

    async def _launch(self, slot: EngineSlot) -> None:
        await slot.launch(self._transfer, lambda: self._weights)
        slot.up = True
        await self._notify()

    def _mark_down(self, slot: EngineSlot, actor: object, what: str) -> None:
        """Replace an actor that is known to be gone, once."""
        if slot.actor is not actor or not slot.up:
            return
        slot.up = False
        self._report("engine", f"the actor of engine {slot.number} {what}; it is replaced")
        self._spawn(self._replace(slot))

    async def _replace(self, slot: EngineSlot) -> None:
        while True:
            slot.starts += 1
            slot.kill()
            try:
                if slot.starts > MOST_STARTS:
                    raise EngineError(
                        f"engine {slot.number}: its actor and {MOST_STARTS} replacements died one after the "
                        "other\n  fix: see the run directory's logs and Ray's session folder for the reason"
                    )
                await self._launch(slot)
                return
            except RayActorError:
                continue
            except StartTimeout as error:
                self._report("engine", str(error))

    async def _watch(self, slot: EngineSlot) -> None:
        """Ask for a slot's heartbeats until the pool is closed."""
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            if not slot.up:
                continue
            actor = slot.actor
            try:
                if await slot.heartbeat():
                    self._report("engine", f"the process of engine {slot.number} died and was restarted")
            except RayActorError:
                self._mark_down(slot, actor, "died")
            except EngineError as error:
                self._mark_down(slot, actor, f"has no engine any more ({error})")
            except TimeoutError:
                stacks = await slot.end_hung()
                seconds = slot.settings.hang_seconds
                self._mark_down(slot, actor, f"sent no heartbeat for {seconds:g} s\n{stacks}")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a background task."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_end)

    def _on_task_end(self, task: "asyncio.Task[None]") -> None:
        """Pass a background task's error on to all that wait; otherwise a slot would stay empty forever."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
            self._spawn(self._notify())

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
