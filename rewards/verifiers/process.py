"""Verifier processes: started once, given one answer at a time, killed when late.

    samples --> waiting --> a free process --> outcome           (JSON lines over pipes, nothing pickled)
                            late, crashed, out of memory: killed with its whole group, this answer is a fault,
                            and the next one goes to a process that was started when the late one
                            had used half of its time

A process is a group of its own, and dies with the one that started it (rewards.verifiers.child).
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from data.params import Params
from rewards.verifiers.base import Outcome, OutcomeKind, Sample, VerifierParams, fault, too_long

START_SECONDS = 120.0
"""Limit for the start of a process, imports included."""
_STARTS = 3
"""Processes in a row that may fail to start before a batch is given up."""
_PIECE = 1 << 16
_LONGEST_REPLY = 1 << 20
"""Longest reply that is read, in bytes."""


@dataclass(slots=True, eq=False)
class _Child:
    """One process, and the answer it works on."""

    process: subprocess.Popen[bytes]
    deadline: float
    """Time (monotonic) at which it is late: with its start, or with its answer."""
    ready: bool = False
    index: int | None = None
    """Number of its answer in the batch; None while it has none."""
    received: bytearray = field(default_factory=bytearray)
    unsent: bytes = b""

    @property
    def free(self) -> bool:
        return self.ready and self.index is None

    def kill(self) -> int:
        """End the process with its whole group. -> its exit code."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        return self.process.wait()


class VerifierPool:
    """A few processes of one verifier. Used by one thread."""

    def __init__(self, params: VerifierParams) -> None:
        self._params = params
        self._children: list[_Child] = []
        self._finalizer = weakref.finalize(self, _kill_all, self._children)
        self.restarts = 0
        """Processes that had to be killed or died."""
        self.seconds = 0.0
        """Time that the processes spent on answers, without pipes and waiting."""

    def start(self) -> None:
        """Start all processes, without waiting for them."""
        while len(self._children) < self._params.processes:
            self._start_one()

    def wait(self) -> str | None:
        """Wait until all processes have started. -> why they cannot, or None."""
        self.start()
        batch = _Batch(samples=())
        while batch.refused is None and not all(child.ready for child in self._children):
            self._advance(batch)
            self.start()
        return batch.refused

    def verify(self, samples: Sequence[Sample]) -> Iterator[Outcome]:
        """The outcome of each sample, in order, each as soon as it and those before it are known."""
        batch = _Batch(samples=samples)
        for index, sample in enumerate(samples):
            refused = too_long(sample, self._params)
            if refused is None:
                batch.waiting.append(index)
            else:
                batch.outcomes[index] = refused
        try:
            for index in range(len(samples)):
                while index not in batch.outcomes:
                    self._advance(batch)
                yield batch.outcomes.pop(index)
        finally:
            # The caller left early: what is still being worked on must not answer the next batch.
            for child in [child for child in self._children if child.index is not None]:
                self._drop(child)

    def pids(self) -> list[int]:
        """Process ids of the processes that are there now."""
        return [child.process.pid for child in self._children]

    def close(self) -> None:
        """End all processes of the pool."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _advance(self, batch: "_Batch") -> None:
        """Hand out answers, wait for the next event, and take it in."""
        self._fill(batch)
        if batch.refused is not None:
            for index in batch.waiting:
                batch.outcomes[index] = fault(batch.refused)
            batch.waiting.clear()
            return
        with selectors.DefaultSelector() as selector:
            for child in self._children:
                assert child.process.stdin is not None and child.process.stdout is not None
                selector.register(child.process.stdout, selectors.EVENT_READ, child)
                if child.unsent:
                    selector.register(child.process.stdin, selectors.EVENT_WRITE, child)
            for key, _ in selector.select(self._patience()):
                child = key.data
                if child in self._children:
                    if key.fileobj is child.process.stdin:
                        self._send(child)
                    else:
                        self._receive(child, batch)
        self._end_late(batch)

    def _fill(self, batch: "_Batch") -> None:
        """Give waiting answers to free processes, and start processes where there are too few."""
        now = time.monotonic()
        for child in [child for child in self._children if child.free]:
            if not batch.waiting:
                break
            if child.process.poll() is not None:
                self._drop(child)  # it died while it had nothing to do
                continue
            child.index = batch.waiting.popleft()
            child.deadline = now + self._params.seconds
            child.unsent = _line(batch.samples[child.index])
        busy = sum(child.index is not None for child in self._children)
        wanted = min(self._params.processes, busy + len(batch.waiting))
        while len(self._children) < wanted:
            self._start_one()
        late = any(self._half(child) <= now for child in self._children if child.index is not None)
        if late and batch.waiting and all(child.index is not None for child in self._children):
            self._start_one()

    def _half(self, child: _Child) -> float:
        """The time at which a process has used half of its limit."""
        return child.deadline - self._params.seconds / 2

    def _patience(self) -> float:
        """Seconds until something is due."""
        now = time.monotonic()
        due = [child.deadline for child in self._children if child.index is not None or not child.ready]
        due += [
            half for child in self._children if child.index is not None and (half := self._half(child)) > now
        ]
        return max(0.0, min(due) - now)

    def _start_one(self) -> None:
        command = [sys.executable, "-P", "-m", "rewards.verifiers.child"]
        process = subprocess.Popen(
            [*command, Params.model_dump_json(self._params), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            process_group=0,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert process.stdin is not None and process.stdout is not None
        os.set_blocking(process.stdin.fileno(), False)
        os.set_blocking(process.stdout.fileno(), False)
        self._children.append(_Child(process=process, deadline=time.monotonic() + START_SECONDS))

    def _send(self, child: _Child) -> None:
        assert child.process.stdin is not None
        try:
            sent = os.write(child.process.stdin.fileno(), child.unsent[:_PIECE])
        except BrokenPipeError:
            child.unsent = b""  # the end of its output says the same
            return
        child.unsent = child.unsent[sent:]

    def _receive(self, child: _Child, batch: "_Batch") -> None:
        assert child.process.stdout is not None
        piece = os.read(child.process.stdout.fileno(), _PIECE)
        child.received += piece
        if not piece or len(child.received) > _LONGEST_REPLY:
            self._died(child, batch)
            return
        if not child.received.endswith(b"\n"):
            return
        reply = _parsed(bytes(child.received))
        child.received.clear()
        if not child.ready:
            if reply.get("ready") is True:
                child.ready, batch.failures = True, 0
            else:
                self._drop(child)
                batch.refused = f"the verifier cannot start: {reply.get('failed', 'it wrote no JSON')}"
        elif child.index is not None:
            batch.outcomes[child.index] = _outcome_of(reply)
            if isinstance(seconds := reply.get("seconds"), float):
                self.seconds += seconds
            child.index = None
            if reply.get("last") is True:
                self._drop(child)

    def _died(self, child: _Child, batch: "_Batch") -> None:
        index = child.index
        code = self._drop(child)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        if index is not None:
            batch.outcomes[index] = fault(f"the verifier's process died ({how})")
        elif not child.ready:
            self._failed_start(batch, f"its process died ({how})")

    def _end_late(self, batch: "_Batch") -> None:
        now = time.monotonic()
        for child in [child for child in self._children if child.deadline <= now and not child.free]:
            self._drop(child)
            if child.index is not None:
                batch.outcomes[child.index] = fault(f"not verified within {self._params.seconds:g} s")
            else:
                self._failed_start(batch, f"it did not start within {START_SECONDS:g} s")

    def _failed_start(self, batch: "_Batch", why: str) -> None:
        batch.failures += 1
        if batch.failures == _STARTS:
            batch.refused = f"the verifier cannot start: {why}"

    def _drop(self, child: _Child) -> int:
        self._children.remove(child)
        self.restarts += 1
        return child.kill()


@dataclass(slots=True, kw_only=True)
class _Batch:
    """The samples of one call of `verify`."""

    samples: Sequence[Sample]
    waiting: deque[int] = field(default_factory=deque)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    failures: int = 0
    """Processes in a row that did not start."""
    refused: str | None = None
    """Why no process can be started."""


def _kill_all(children: list[_Child]) -> None:
    for child in children:
        child.kill()
    children.clear()


def _line(sample: Sample) -> bytes:
    request = {
        "question": sample.question,
        "answer": sample.answer,
        "gold": sample.gold,
        "fields": dict(sample.fields),
    }
    return json.dumps(request, default=str).encode() + b"\n"


def _parsed(line: bytes) -> dict[str, Any]:
    """The reply's object; an empty one for what is not a single JSON object."""
    try:
        reply = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return reply if isinstance(reply, dict) else {}


def _outcome_of(reply: dict[str, Any]) -> Outcome:
    kind, score, reason = reply.get("kind"), reply.get("score"), reply.get("reason")
    valued = score is None or (isinstance(score, float) and 0 <= score <= 1)
    if not valued or not isinstance(reason, str) or kind not in [known.value for known in OutcomeKind]:
        return fault("the verifier's process wrote no outcome")
    return Outcome(kind=OutcomeKind(str(kind)), score=score, reason=reason)
