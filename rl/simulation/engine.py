"""One engine in simulated time, as vLLM schedules: calls wait in order of arrival for a slot, and at every
decode step each running call makes one token.

All calls therefore share one clock, which counts decode steps, and only the ends of calls are events:

    pace = 1 / (step_s + call_s * running)     steps per second
"""

import heapq
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field

from rl.simulation.load import GroupLoad
from rl.simulation.plan import Rates

_ROUNDING = 1e-9
"""Relative rounding error of decode steps, since clocks are sums of many floats."""
_MANY_MARKS = 16
_ANY_VERSION = 1 << 62
"""Number above all versions, which sorts after them."""


@dataclass(slots=True)
class Job:
    """A group on an engine."""

    group: int | None
    """Index of the group; None for a validation group."""
    load: GroupLoad
    versions: dict[int, float] = field(default_factory=dict)
    """Version -> tokens sampled by it."""
    blocked: list[int] = field(init=False)
    """[P] how many pieces each piece still waits for; -1 once it has ended."""
    left: int = field(init=False)
    """Number of pieces that have not ended."""
    done: dict[int, float] = field(default_factory=dict)
    """Piece -> decode steps already made, of pieces that an engine's death interrupted."""

    def __post_init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Start again from the prompts."""
        self.blocked = [len(piece.after) for piece in self.load.pieces]
        self.left = len(self.blocked)
        self.versions.clear()
        self.done.clear()


_Running = tuple[float, int, float, Job, int]
"""(clock when it ends, number of its own, clock when it began, job, piece): a heap entry."""


class SimulatedEngine:
    """A simulated engine. Times are seconds since the run began."""

    def __init__(self, rates: Rates, max_live_calls: int) -> None:
        self._rates = rates
        self._free = float(max_live_calls)
        self._max_live = float(max_live_calls)
        self._clock = 0.0
        self._time = 0.0
        self._running: list[_Running] = []
        self._waiting: deque[tuple[Job, int]] = deque()
        self._jobs: dict[int, Job] = {}
        self._order = 0
        self._marks: list[tuple[float, int]] = [(0.0, 0)]
        """(clock, version it was set to)."""
        self.slowdown = 1.0
        """How much longer a decode step takes than alone. Change it right after `advance`."""
        self.busy_s = 0.0
        self.up = True
        self.stamp = 0
        """Number of the current schedule; events scheduled under another stamp are void."""

    @property
    def num_jobs(self) -> int:
        """Number of groups at work or waiting."""
        return len(self._jobs)

    def advance(self, now: float) -> None:
        """Advance time, at most to the next event."""
        if self._running:
            self._clock += (now - self._time) / self._step_s()
            self.busy_s += now - self._time
        self._time = now

    def next_event(self) -> float | None:
        """Time at which the next call ends; None without calls."""
        if not self._running:
            return None
        return self._time + max(0.0, self._running[0][0] - self._clock) * self._step_s()

    def set_version(self, version: int) -> None:
        """Attribute all tokens from now on to these weights."""
        if not self._running:
            self._marks.clear()
        elif len(self._marks) >= _MANY_MARKS:
            oldest = min(running[2] for running in self._running)
            del self._marks[: bisect_right(self._marks, (oldest, _ANY_VERSION)) - 1]
        self._marks.append((self._clock, version))

    def add(self, job: Job) -> None:
        """Start a group, or continue one that an engine's death interrupted."""
        self._jobs[id(job)] = job
        for piece, blocked in enumerate(job.blocked):
            if blocked == 0:
                self._waiting.append((job, piece))
        self._fill()

    def pop_finished(self) -> list[Job]:
        """End the calls that are due. -> groups that have ended, in order."""
        finished = []
        due = self._clock + _ROUNDING * max(1.0, self._clock)
        while self._running and self._running[0][0] <= due:
            ended = heapq.heappop(self._running)
            job, piece = ended[3:]
            self._free += job.load.pieces[piece].slots
            self._book(ended, ended[0])
            job.blocked[piece] = -1
            job.left -= 1
            for follower in job.load.followers[piece]:
                job.blocked[follower] -= 1
                if job.blocked[follower] == 0:
                    self._waiting.append((job, follower))
            if not job.left:
                del self._jobs[id(job)]
                finished.append(job)
        self._fill()
        return finished

    def die(self, *, keeps: bool) -> list[Job]:
        """End the engine. -> its groups; `keeps`: with what they have sampled."""
        jobs = list(self._jobs.values())
        if keeps:
            for running in self._running:
                self._book(running, self._clock)
                end, _, _, job, piece = running
                job.done[piece] = job.load.pieces[piece].ticks - (end - self._clock)
        else:
            for job in jobs:
                job.begin_anew()
        self._jobs.clear()
        self._running.clear()
        self._waiting.clear()
        self._free = self._max_live
        return jobs

    def _step_s(self) -> float:
        return (self._rates.step_s + self._rates.call_s * (self._max_live - self._free)) * self.slowdown

    def _fill(self) -> None:
        while self._waiting:
            job, index = self._waiting[0]
            piece = job.load.pieces[index]
            if piece.slots > self._free + _ROUNDING and self._running:
                break
            self._waiting.popleft()
            self._free -= piece.slots
            self._order += 1
            end = self._clock + piece.ticks - job.done.get(index, 0.0)
            heapq.heappush(self._running, (end, self._order, self._clock, job, index))
        if not self._running:
            self._free = self._max_live

    def _book(self, running: _Running, until: float) -> None:
        """Attribute the tokens up to `until` to the versions of their time."""
        _, _, begun, job, index = running
        piece = job.load.pieces[index]
        density = piece.tokens / piece.ticks
        mark = len(self._marks) - 1
        while True:
            since, version = self._marks[mark]
            begin = max(since, begun)
            if until > begin:
                job.versions[version] = job.versions.get(version, 0.0) + density * (until - begin)
                until = begin
            if since <= begun:
                return
            mark -= 1
