"""What happens to the threads of a running episode, as events for whoever shows them live.

    opened     a thread begins to exist; its first call may have to wait
    begun      a call is sent to the engine
    said       a call has new tokens
    restarted  a call is sampled again from its beginning, since its engine died
    ended      a call has come back, with all of its tokens and its cost
    joined     a thread goes on after the threads that it waited for
    closed     a thread is over: returned, truncated, malformed, out of budget, cancelled, failed

Threads are named by their path from the root: () is the root, (2,) the third thread that it opened.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data.episodes.trajectory import Call, Limit, ThreadOutcome
from rollout.commands import Command, Generate
from rollout.machine import EpisodeMachine

Path = tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _OfThread:
    """Base of all events."""

    path: Path
    """The thread that it happened to."""
    seconds: float
    """Seconds since the episode began."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened(_OfThread):
    """A thread begins to exist."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun(_OfThread):
    """A call is sent to the engine."""

    call: int
    """Its number in the order of issue."""
    role: str
    """The protocol's name for this kind of call."""
    context_tokens: int
    """Tokens that it sees."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Said(_OfThread):
    """A call has new tokens."""

    call: int
    ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Restarted(_OfThread):
    """A call is sampled again from its beginning: what it said is void."""

    call: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended(_OfThread):
    """A call has come back."""

    call: int
    record: Call
    """The call, in the numbering of the running episode."""
    critical_tokens: int
    """Sampled tokens on the longest path up to its end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Joined(_OfThread):
    """A thread goes on after the threads that it waited for."""

    children: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Closed(_OfThread):
    """A thread is over."""

    outcome: ThreadOutcome
    limit: Limit | None
    success: bool


ThreadEvent = Opened | Begun | Said | Restarted | Ended | Joined | Closed


class ThreadWatch:
    """Implements `rollout.runner.EpisodeWatch`: tells `emit` what has changed since the last step."""

    def __init__(self, emit: Callable[[ThreadEvent], None], *, wants_tokens: bool) -> None:
        self.wants_tokens = wants_tokens
        """Whether each step's tokens are events; without, a call's tokens come with its end."""
        self.has_begun = False
        """Whether the episode runs."""
        self.tokens: dict[int, int] = {}
        """Tokens told so far, by call in flight."""
        self._emit = emit
        self._joined: list[int] = []
        """[threads] results that each had read when it was last looked at."""
        self._closed: set[int] = set()
        self._in_flight: dict[int, Path] = {}

    def on_step(self, machine: EpisodeMachine, commands: Sequence[Command], seconds: float) -> None:
        """Tell what the machine's last event has changed: ends of calls, new threads, joins, ends of threads,
        new calls.
        """
        self.has_begun = True
        for index in [call for call in self._in_flight if machine.table.calls[call] is not None]:
            self._end_call(machine, index, seconds)
        for thread in machine.threads[len(self._joined) :]:
            self._joined.append(0)
            self._emit(Opened(path=thread.path, seconds=seconds))
        for thread in machine.threads:
            new = thread.results[self._joined[thread.index] :]
            if new:
                self._joined[thread.index] = len(thread.results)
                children = tuple(machine.threads[result.thread].path for result in new)
                self._emit(Joined(path=thread.path, seconds=seconds, children=children))
        for thread in machine.threads:
            if thread.outcome is not None and thread.index not in self._closed:
                self._closed.add(thread.index)
                self._emit(
                    Closed(
                        path=thread.path, seconds=seconds, outcome=thread.outcome, limit=thread.limit,
                        success=thread.success,
                    )
                )  # fmt: skip
        for command in commands:
            if isinstance(command, Generate):
                self._in_flight[command.call], self.tokens[command.call] = command.path, 0
                self._emit(
                    Begun(
                        path=command.path, seconds=seconds, call=command.call,
                        role=machine.table.in_flight[command.call].ask.role,
                        context_tokens=len(command.prompt),
                    )
                )  # fmt: skip

    def on_tokens(self, call: int, start: int, ids: tuple[int, ...], seconds: float) -> None:
        """Tell of a call's new tokens. A call that is sampled again, since its engine died, tells all of them
        again.
        """
        path = self._in_flight.get(call)
        if path is None:
            return
        if start < self.tokens[call]:
            self._emit(Restarted(path=path, seconds=seconds, call=call))
        self.tokens[call] = start + len(ids)
        self._emit(Said(path=path, seconds=seconds, call=call, ids=ids))

    def _end_call(self, machine: EpisodeMachine, index: int, seconds: float) -> None:
        path, told, record = self._in_flight.pop(index), self.tokens.pop(index), machine.table.calls[index]
        assert record is not None
        rest = record.output[told:]
        if rest:
            self._emit(Said(path=path, seconds=seconds, call=index, ids=rest))
        self._emit(
            Ended(
                path=path, seconds=seconds, call=index, record=record,
                critical_tokens=machine.table.critical_tokens(index),
            )
        )  # fmt: skip
