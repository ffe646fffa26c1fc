"""The simulated engines of a plan, and which groups run on them."""

import heapq
from collections.abc import Iterator

from rl.simulation.engine import Job, SimulatedEngine
from rl.simulation.plan import Plan


class SimulatedPool:
    """Assigns every group to the engine with the fewest. `now` is always the current moment, in seconds."""

    def __init__(self, plan: Plan) -> None:
        self._engines = [SimulatedEngine(plan.rates, plan.max_live_calls) for _ in range(plan.engines)]
        self._slots = [(0, index) for index in range(plan.engines)]
        """Heap of (groups at work, engine); outdated entries are skipped."""
        self.num_busy = 0
        """Engines with a group at work."""
        self._waiting: list[Job] = []
        """Groups for which no engine is up."""
        self._changed: set[int] = set()
        """Engines whose next event has to be computed again."""

    @property
    def busy_s(self) -> float:
        """Seconds with a group at work, summed over engines."""
        return sum(engine.busy_s for engine in self._engines)

    def is_up(self, index: int) -> bool:
        """Whether an engine is up."""
        return self._engines[index].up

    def assign(self, job: Job, now: float) -> None:
        """Start a group on the engine with the fewest groups, or keep it until one is up."""
        while self._slots:
            busy, index = heapq.heappop(self._slots)
            engine = self._engines[index]
            if engine.up and busy == engine.num_jobs:
                self._touch(index, now)
                self.num_busy += not busy
                engine.add(job)
                heapq.heappush(self._slots, (engine.num_jobs, index))
                return
        self._waiting.append(job)

    def pop_finished(self, index: int, stamp: int, now: float) -> list[Job]:
        """Handle an engine's event. -> groups that have ended; none when the event is outdated."""
        if self._engines[index].stamp != stamp:
            return []
        engine = self._touch(index, now)
        finished = engine.pop_finished()
        if finished:
            heapq.heappush(self._slots, (engine.num_jobs, index))
            self.num_busy -= not engine.num_jobs
        return finished

    def next_events(self) -> Iterator[tuple[float, int, int]]:
        """(time, engine, stamp) of the next event of every engine that has changed since the last call."""
        for index in self._changed:
            engine = self._engines[index]
            engine.stamp += 1
            at = engine.next_event()
            if at is not None:
                yield at, index, engine.stamp
        self._changed.clear()

    def set_slowdown(self, slowdown: float, now: float) -> None:
        """Change how much longer a decode step takes than alone."""
        for index, engine in enumerate(self._engines):
            if engine.slowdown != slowdown:
                self._touch(index, now).slowdown = slowdown

    def set_version(self, version: int, now: float) -> None:
        """Give all engines new weights; one that is down comes back with them."""
        for index in range(len(self._engines)):
            self._touch(index, now).set_version(version)

    def kill(self, index: int, now: float, *, keeps: bool) -> None:
        """End an engine; its groups go to the others. `keeps`: with what they have sampled."""
        engine = self._touch(index, now)
        self.num_busy -= bool(engine.num_jobs)
        jobs = engine.die(keeps=keeps)
        engine.up = False
        for job in jobs:
            self.assign(job, now)

    def restart(self, index: int, now: float) -> None:
        """Bring an engine up again; groups that no engine could take start."""
        self._engines[index].up = True
        heapq.heappush(self._slots, (0, index))
        waiting, self._waiting = self._waiting, []
        for job in waiting:
            self.assign(job, now)

    def reset(self, version: int, now: float) -> None:
        """Drop all groups; every engine is empty, with weights `version`."""
        self.num_busy = 0
        self._waiting.clear()
        for index in range(len(self._engines)):
            engine = self._touch(index, now)
            engine.die(keeps=False)
            engine.set_version(version)
            heapq.heappush(self._slots, (0, index))

    def _touch(self, index: int, now: float) -> SimulatedEngine:
        """Advance an engine to `now` before it is changed."""
        self._engines[index].advance(now)
        self._changed.add(index)
        return self._engines[index]
