"""Live sending of a stage's metrics: each tracker in a thread of its own, and never a reason to end a run.

A step is sent when the next one begins, because some of its metrics come late (its validation). What is lost
when a process is killed comes back at the resume, which sends the stage again.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rl.config.tracking import TrackerName, Vocabulary
from rl.tracking.trackers.base import TrackedStage, Tracker
from rl.tracking.trackers.names import named
from rl.tracking.trackers.registry import TRACKERS

CLOSE_S = 60.0
"""Longest wait for a tracker at the end of a stage (seconds)."""
Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackerFailure:
    """Why a tracker gets no more rows of a stage."""

    tracker: TrackerName
    kind: Literal["failed", "late"]
    """failed: it raised an error, or is not installed. late: it did not end within CLOSE_S."""
    message: str

    def __str__(self) -> str:
        return f"{self.tracker} {self.kind}: {self.message}; training goes on, `braid track` sends it later"


class LiveTrackers:
    """The trackers of one stage while it trains."""

    def __init__(
        self,
        names: Sequence[TrackerName],
        stage: TrackedStage,
        report: Callable[[TrackerFailure], None],
        *,
        aliases: Sequence[Vocabulary] = (),
    ) -> None:
        """`report` is called once for each tracker that fails, by the thread that sends."""
        self._report, self._aliases = report, aliases
        self._workers = [_Worker(name, stage) for name in names]
        self._step: int | None = None
        self._values: dict[str, float] = {}

    def send(self, records: Iterable[Record]) -> None:
        """Lines of the stage, in order; several lines of one step make one row."""
        for record in records:
            if record["step"] != self._step:
                self._flush()
                self._step = record["step"]
            self._values |= named(record, self._aliases)
        self._report_failures()

    def close(self) -> None:
        """Send the last step and end all trackers."""
        self._flush()
        for worker in self._workers:
            worker.end()
        for worker in self._workers:
            worker.wait(CLOSE_S)
        self._report_failures()

    def _flush(self) -> None:
        if self._step is not None:
            for worker in self._workers:
                worker.put(self._step, self._values)
        self._step, self._values = None, {}

    def _report_failures(self) -> None:
        for worker in self._workers:
            if (failure := worker.take_failure()) is not None:
                self._report(failure)


class _Worker:
    """One tracker, opened, fed and closed by its own thread, so that a slow one delays no step."""

    def __init__(self, name: TrackerName, stage: TrackedStage) -> None:
        self._name, self._stage = name, stage
        self._rows: queue.SimpleQueue[tuple[int, Mapping[str, float]] | None] = queue.SimpleQueue()
        self._failure: TrackerFailure | None = None
        self._thread = threading.Thread(target=self._run, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def put(self, step: int, values: Mapping[str, float]) -> None:
        """Hand over a row."""
        if self._thread.is_alive():
            self._rows.put((step, values))

    def end(self) -> None:
        """Ask it to close once all rows are sent."""
        self._rows.put(None)

    def wait(self, seconds: float) -> None:
        """Wait for the end; a tracker that is later than that is left behind."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._fail("late", f"not done after {seconds:g} s")

    def take_failure(self) -> TrackerFailure | None:
        """The failure, if any; only the first call after it has one."""
        failure, self._failure = self._failure, None
        return failure

    def _run(self) -> None:
        try:
            tracker: Tracker = TRACKERS[self._name](self._stage)
            while (row := self._rows.get()) is not None:
                tracker.send(*row)
            tracker.close()
        # Foreign code, which may raise anything; a run must not end because of it.
        except Exception as error:
            self._fail("failed", f"{type(error).__name__}: {error}")

    def _fail(self, kind: Literal["failed", "late"], message: str) -> None:
        shown = " ".join(message.split())[:300]
        self._failure = TrackerFailure(tracker=self._name, kind=kind, message=shown)
