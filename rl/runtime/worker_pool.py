"""Pool of worker processes that look at episodes one after the other, and may die, raise or hang.

    controller -- group --> free worker -- one result after the other --> controller
                            late or dead: killed and replaced; the group continues after that episode

An episode has `seconds` and is never tried again once they are over. After half of that time a spare worker
is started, so that the rest of the group does not wait for a start. An episode that fails has a result that
says so, which does not affect other episodes. Reward workers and scorers are such pools.

Scorers, of which a small one takes a few milliseconds for an episode, are never idle: another group already
waits at each of them, and results are sent in portions, as many as were made meanwhile. A group that only
waits is not blamed for a death, nor for time that another one takes.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import ObjectLostError, RayActorError, RayTaskError

from data.errors import RewardError
from data.tasks.problem import Problem
from rewards.score import Ungraded

Result = TypeVar("Result")
_TRIES = 2
"""Times one episode is given to a worker that dies: the first death may have had another cause."""
MOST_STARTS = 4
"""Processes of one worker that may be started in a row without a good result between them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trade(Generic[Result]):
    """What the workers of a pool are called, and what their results are."""

    name: str
    """Such as "reward": the kind of its faults, and part of the workers' names."""
    failed: Callable[[str, Ungraded], Result]
    """(reason, kind) -> the result of an episode that failed."""
    is_good: Callable[[Result], bool]
    """Whether a result shows that the worker's process works."""
    remedy: str
    """What to do when no process comes up."""
    method: str = "score_group"
    """Method of the workers; it takes (problem, episodes or requests, first index) and yields results."""
    portions: str = ""
    """Method in place of `method` that takes one argument more, how many results may be made ahead of the one
    that is being sent, and yields lists of results: an empty one when it begins, so that a group may wait at
    a busy worker. "": it has none.
    """
    ahead: int = 0
    """The value of this argument, as long as no worker has died."""
    waiting: int = 0
    """Groups that may wait at a busy worker, so that it is not idle while results and groups travel."""


@dataclass(slots=True)
class _Worker:
    """One worker of a pool; its process is replaced when it dies, hangs or is late."""

    number: int
    actor: Any
    started: bool = False
    """Whether `ready` has returned."""
    starts: int = 1
    """Processes started since its last good result."""
    line: "list[_Turn]" = field(default_factory=list)
    """The group that it has, and those that wait for it."""


@dataclass(eq=False, slots=True)
class _Turn:
    """One group at a worker."""

    worker: _Worker
    actor: Any
    """The process; None until it has started."""
    begun: bool
    """Whether the process has said that it has begun."""
    first: bool
    """Whether no group was before it while its process lived, which has then begun it or is about to."""

    @property
    def is_to_blame(self) -> bool:
        """Whether a death of the process is its own: one that waited has nothing to do with it."""
        return self.begun or self.first

    @property
    def counts(self) -> bool:
        """Whether its time is running."""
        others = [turn for turn in self.worker.line if turn is not self]
        return self.begun or (self.first and not any(turn.begun for turn in others))


class WorkerPool(Generic[Result]):
    """Hands groups to workers, one group at a time to each."""

    def __init__(
        self,
        trade: Trade[Result],
        start: Callable[[], Any],
        *,
        workers: int,
        seconds: float,
        start_seconds: float,
        report: Callable[[str, str], None] = lambda kind, what: None,
    ) -> None:
        """Start the workers, without waiting for them.

        Args:
            trade: what the workers do.
            start: makes an actor with `ready` and the trade's method, as `rewards.actor.RewardWorker` has
                them.
            workers: size of the pool.
            seconds: limit for one episode, from when a worker begins it.
            start_seconds: limit for the start of a worker.
            report: called with (kind, message) for every fault.
        """
        self._trade, self._start = trade, start
        self._seconds, self._start_seconds = seconds, start_seconds
        self.report = report
        """(kind, message) of every fault."""
        self._workers = [_Worker(number, start()) for number in range(workers)]
        self._spare: Any = None
        """An actor that was started in advance and is not in the pool yet."""
        self._places = asyncio.Semaphore(workers * (1 + trade.waiting))

    async def results(
        self, problem: Problem, episodes: Sequence[Any], reference: Any, *more: Any
    ) -> list[Result]:
        """[G] the result of each episode, in order.

        Args:
            problem: what the episodes are samples of.
            episodes: the group, or what else the workers take in its place.
            reference: the same group in Ray's object store.
            more: further arguments of the workers' `score_group`.

        Raises:
            RewardError: a worker died again and again; nothing can be scored.
        """
        found: list[Result] = []
        deaths = 0
        while len(found) < len(episodes):
            known = len(found)
            turn = await self._acquire()
            try:
                await self._work(turn, problem, reference, found, more, careful=deaths > 0)
            except TimeoutError:
                reason = f"not scored within {self._seconds:g} s"
                self._replace(turn.worker, turn.actor, f"{reason}: an answer to {problem.id}")
                found.append(self._trade.failed(reason, Ungraded.TIMEOUT))
            except RayTaskError as error:
                reason = f"raised {error.cause!r}"
                self.report(self._trade.name, f"scoring of {problem.id} {reason}")
                found.append(self._trade.failed(reason, Ungraded.FAULT))
            except RayActorError as error:
                deaths = 1 if len(found) > known else deaths + turn.is_to_blame
                self._replace_dead(turn.worker, turn.actor, error)
                if deaths == _TRIES:
                    found.append(self._trade.failed("its process died", Ungraded.FAULT))
                    deaths = 0
            except ObjectLostError:
                # The node that held the group is gone; the driver still has the group.
                reference = ray.put(list(episodes))
            except asyncio.CancelledError:
                # Its process still works on the group and would use the time of the next one.
                self._replace(turn.worker, turn.actor, None)
                raise
            finally:
                self._release(turn)
        return found

    def close(self) -> None:
        """End all workers and their processes."""
        for actor in [*(worker.actor for worker in self._workers), self._spare]:
            if actor is not None:
                ray.kill(actor)
        self._spare = None

    async def _work(
        self,
        turn: _Turn,
        problem: Problem,
        reference: Any,
        found: list[Result],
        more: Sequence[Any],
        *,
        careful: bool,
    ) -> None:
        """Append the results of the episodes from index `len(found)` on, as they come.

        A process that dies takes along what it has made and not sent, and the death would be blamed on those
        episodes: so after a death the pool is `careful`, and no episode begins before the result of the one
        before it has been received.
        """
        trade, ahead = self._trade, 0 if careful else self._trade.ahead
        method = getattr(turn.actor, trade.portions or trade.method)
        given = (*more, ahead) if trade.portions else more
        options = {"num_returns": "streaming", "_generator_backpressure_num_objects": 1 + (ahead > 0)}
        stream = method.options(**options).remote(problem, reference, len(found), *given)
        if trade.portions:
            await self._next(stream, turn)
            turn.begun = True
        async for received in self._received(stream, turn):
            for result in received if trade.portions else [received]:
                found.append(result)
                if trade.is_good(result):
                    turn.worker.starts = 1

    async def _received(self, stream: Any, turn: _Turn) -> AsyncIterator[Any]:
        """The messages of a group. Raises TimeoutError when one is late."""
        while (received := await self._next(stream, turn)) is not None:
            yield received

    async def _next(self, stream: Any, turn: _Turn) -> Any:
        """The next message of a group, or None at its end.

        Raises TimeoutError when it is late; while another group is before it, no time is counted.
        """
        pending = asyncio.ensure_future(_receive(stream))
        halves = 0
        try:
            while halves < 2:
                counts = turn.counts
                done, _ = await asyncio.wait({pending}, timeout=self._seconds / 2)
                if done:
                    return pending.result()
                halves += counts
                if halves == 1 and self._spare is None:
                    self._spare = self._start()
            raise TimeoutError
        finally:
            pending.cancel()

    async def _acquire(self) -> _Turn:
        """A place at the worker with the fewest groups, once its process has started."""
        await self._places.acquire()
        worker = min(self._workers, key=lambda each: len(each.line))
        turn = _Turn(worker=worker, actor=None, begun=not self._trade.portions, first=not worker.line)
        worker.line.append(turn)
        try:
            while not worker.started:
                await self._await_start(worker)
        except BaseException:
            self._release(turn)
            raise
        turn.actor = worker.actor
        return turn

    def _release(self, turn: _Turn) -> None:
        line = turn.worker.line
        line.remove(turn)
        # One that still waits for a process that is dead was not the first at it.
        if line and line[0].actor in (None, turn.worker.actor):
            line[0].first = True
        self._places.release()

    async def _await_start(self, worker: _Worker) -> None:
        """Wait for a worker's process; replace one that died or was late."""
        actor = worker.actor
        try:
            await asyncio.wait_for(actor.ready.remote(), self._start_seconds)
        except TimeoutError:
            self._replace_dead(worker, actor, f"it did not start within {self._start_seconds:g} s")
        except RayActorError as error:
            self._replace_dead(worker, actor, error)
        else:
            worker.started = worker.started or worker.actor is actor

    def _replace_dead(self, worker: _Worker, actor: Any, why: object) -> None:
        """Replace a process that died or never came up. Raises RewardError when that happens too often."""
        if worker.actor is not actor:
            return  # another group of it has done so
        reason = _last_line(why)
        if worker.starts == MOST_STARTS:
            raise RewardError(
                f"{self._trade.name} worker {worker.number}: {MOST_STARTS} processes died one after the "
                f"other without scoring anything, the last because {reason}\n"
                f"  fix: see the run directory's logs and Ray's session folder; {self._trade.remedy}"
            )
        worker.starts += 1
        self._replace(worker, actor, reason)

    def _replace(self, worker: _Worker, actor: Any, why: str | None) -> None:
        """Kill a worker's process and put another in its place. `why`: for the report; None: no fault."""
        if worker.actor is not actor:
            return
        if why is not None:
            name = self._trade.name
            self.report(name, f"{name} worker {worker.number} is replaced: {why}")
        ray.kill(worker.actor)
        worker.actor, self._spare = self._spare or self._start(), None
        worker.started = False


async def _receive(stream: Any) -> Any:
    try:
        return await (await anext(stream))
    except StopAsyncIteration:
        return None


def _last_line(why: object) -> str:
    """The reason in one line; the last one of Ray's reports is that of the exception, or its remedy."""
    lines = [line.strip() for line in str(why).splitlines() if line.strip()]
    while len(lines) > 1 and lines[-1].startswith("fix:"):
        lines.pop()
    return lines[-1] if lines else repr(why)
