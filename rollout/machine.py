"""The books of one running episode: call DAG, threads, barriers, budgets. Sans-IO: results in, commands out.

    machine = EpisodeMachine(protocol, prompt, ...)
    commands = machine.begin()
    while not machine.done: commands = machine.on_result(index, result)
    episode = machine.episode()

Whatever a model samples, the machine ends: every call is bounded by the budgets, every fork by width and
depth, and a protocol that asks for what is not allowed gets a typed outcome instead of an exception.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from data.search_tree import SearchTree
from data.trajectory import (
    Call,
    Edge,
    EdgeKind,
    Episode,
    Forced,
    Span,
    StopReason,
    Thread,
    ThreadOutcome,
    VersionSpan,
    Violation,
    ViolationKind,
)
from rollout.protocols.base import (
    Action,
    Ask,
    Barrier,
    BarrierKind,
    Budgets,
    Continue,
    Fork,
    Note,
    Return,
    ThinkingProtocol,
    ThreadResult,
    ThreadView,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Generate:
    """Ask the engine. `path` and `number` name the call independently of timing: seeds derive from them."""

    call: int
    prompt: tuple[int, ...]
    stops: tuple[int, ...]
    max_tokens: int
    path: tuple[int, ...]
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Cancel:
    """Abort a call; its result is still awaited (with what had been sampled)."""

    call: int


Command = Generate | Cancel


@dataclass(frozen=True, kw_only=True, slots=True)
class CallResult:
    """What came back for a `Generate`. Times are seconds since the episode began."""

    output: tuple[int, ...]
    logprobs: tuple[float, ...]
    versions: tuple[VersionSpan, ...]
    stop: StopReason
    seed: int = 0
    cached_tokens: int = 0
    started_s: float = 0.0
    finished_s: float = 0.0


@dataclass(kw_only=True, slots=True)
class _Thread:
    """Mutable state of a thread while the episode runs."""

    index: int
    parent: "_Thread | None"
    key: int
    opened_by: int | None
    path: tuple[int, ...]
    calls: list[Call] = field(default_factory=list)
    children: "list[_Thread]" = field(default_factory=list)
    num_forks: int = 0
    waiting: "list[_Thread] | None" = None
    barrier: Barrier = field(default_factory=Barrier)
    result: ThreadResult | None = None
    last_call: int | None = None
    joined: list[int] = field(default_factory=list)
    """Calls whose results flow into this thread's next call."""


@dataclass(kw_only=True, slots=True)
class _Pending:
    """A call on its way."""

    thread: _Thread
    ask: Ask
    after: tuple[Edge, ...]
    reserved: int
    cancelled: bool = False


class EpisodeMachine:
    """State machine of one episode. See the module."""

    def __init__(
        self,
        protocol: ThinkingProtocol,
        prompt: tuple[int, ...],
        *,
        id: str,
        problem: str,
        budgets: Budgets,
        max_length: int,
    ) -> None:
        """`prompt` [P]: the task's ids; `max_length`: longest context + output of one call, in tokens."""
        self._protocol = protocol
        self._prompt = prompt
        self._id = id
        self._problem = problem
        self._budgets = budgets
        self._max_length = max_length
        self._calls: list[Call | None] = []
        self._clock: list[int] = []
        self._pending: dict[int, _Pending] = {}
        self._threads: list[_Thread] = []
        self._violations: list[Violation] = []
        self._spent = 0
        self._reserved = 0

    @property
    def done(self) -> bool:
        """The root has ended and every call has come back."""
        return bool(self._threads) and self._threads[0].result is not None and not self._pending

    def begin(self, tree: SearchTree | None = None) -> list[Command]:
        """First commands. `tree` only when a demonstration is built."""
        assert not self._threads, "begin() is called once"
        root = self._open_thread(parent=None, key=0, opened_by=None)
        return self._issue(root, self._protocol.open(self._prompt, tree), ())

    def on_result(self, call: int, result: CallResult) -> list[Command]:
        """A call came back. Returns what to do next."""
        pending = self._pending.pop(call)
        thread = pending.thread
        self._reserved -= pending.reserved
        self._spent += len(result.output)
        trained = (
            len(result.output)
            if pending.ask.trained is None
            else min(pending.ask.trained, len(result.output))
        )
        done = Call(
            index=call,
            thread=thread.index,
            role=pending.ask.role,
            context=pending.ask.context,
            output=result.output,
            logprobs=result.logprobs,
            versions=result.versions,
            stop=result.stop,
            after=pending.after,
            trained=trained,
            seed=result.seed,
            cached_tokens=result.cached_tokens,
            started_s=result.started_s,
            finished_s=result.finished_s,
        )
        self._calls[call] = done
        self._clock[call] += len(result.output)
        thread.calls.append(done)
        thread.last_call = call
        if thread.result is not None:
            return []
        if result.stop is StopReason.ABORT:
            return self._finish(thread, ThreadOutcome.CANCELLED, None)
        if result.stop is StopReason.ERROR:
            return self._finish(thread, ThreadOutcome.FAILED, None)
        return self._apply(thread, self._protocol.on_call(self._view(thread)))

    def episode(self) -> Episode:
        """The finished episode; only when `done`."""
        assert self.done, "the episode is still running"
        calls = tuple(call for call in self._calls if call is not None)
        root = self._threads[0].result
        assert root is not None and len(calls) == len(self._calls)
        return Episode(
            id=self._id,
            problem=self._problem,
            protocol=self._protocol.name,
            calls=calls,
            threads=tuple(_freeze(thread) for thread in self._threads),
            answer=root.value,
            violations=tuple(self._violations),
        )

    def _view(self, thread: _Thread) -> ThreadView:
        return ThreadView(path=thread.path, calls=tuple(thread.calls), num_forks=thread.num_forks)

    def _open_thread(self, parent: _Thread | None, key: int, opened_by: int | None) -> _Thread:
        path = () if parent is None else (*parent.path, key)
        thread = _Thread(index=len(self._threads), parent=parent, key=key, opened_by=opened_by, path=path)
        self._threads.append(thread)
        return thread

    def _resolve(self, spans: tuple[Span, ...]) -> tuple[int, ...]:
        ids: list[int] = []
        for span in spans:
            if isinstance(span, Forced):
                ids.extend(span.ids)
            else:
                call = self._calls[span.call]
                assert call is not None, "a reference to a call that has not come back"
                ids.extend(call.output[span.start : span.stop])
        return tuple(ids)

    def _issue(self, thread: _Thread, ask: Ask, after: tuple[Edge, ...]) -> list[Command]:
        """Make a call, as long as context and budgets allow; else the thread ends with a typed outcome."""
        prompt = self._resolve(ask.context)
        clock = max((self._clock[edge.call] for edge in after), default=0)
        room = self._max_length - len(prompt)
        left = min(
            self._budgets.total_tokens - self._spent - self._reserved, self._budgets.critical_tokens - clock
        )
        if min(room, left) < 1:
            return self._finish(thread, ThreadOutcome.TRUNCATED if room < 1 else ThreadOutcome.BUDGET, None)
        max_tokens = min(ask.max_tokens, room, left)
        index = len(self._calls)
        self._calls.append(None)
        self._clock.append(clock)
        self._reserved += max_tokens
        self._pending[index] = _Pending(thread=thread, ask=ask, after=after, reserved=max_tokens)
        thread.last_call = index
        number = len(thread.calls)
        return [
            Generate(
                call=index,
                prompt=prompt,
                stops=ask.stops,
                max_tokens=max_tokens,
                path=thread.path,
                number=number,
            )
        ]

    def _next_edges(self, thread: _Thread) -> tuple[Edge, ...]:
        assert thread.last_call is not None
        joins = tuple(Edge(kind=EdgeKind.JOIN, call=call) for call in thread.joined)
        thread.joined = []
        return (Edge(kind=EdgeKind.NEXT, call=thread.last_call), *joins)

    def _apply(self, thread: _Thread, action: Action) -> list[Command]:
        self._record(thread, action.notes)
        if isinstance(action, Continue):
            return self._issue(thread, action.ask, self._next_edges(thread))
        if isinstance(action, Return):
            return self._finish(thread, action.outcome, action.value)
        if isinstance(action, Fork):
            return self._fork(thread, action)
        opened = [child for child in thread.children if not action.keys or child.key in action.keys]
        thread.waiting, thread.barrier = opened, action.barrier
        return self._maybe_join(thread)

    def _record(self, thread: _Thread, notes: Sequence[Note]) -> None:
        for note in notes:
            assert thread.last_call is not None
            self._violations.append(
                Violation(kind=note.kind, call=thread.last_call, position=note.position, detail=note.detail)
            )

    def _fork(self, thread: _Thread, fork: Fork) -> list[Command]:
        assert fork.children and thread.last_call is not None
        thread.num_forks += 1
        asks = fork.children
        if len(asks) > self._budgets.width:
            detail = f"{len(asks)} children, {self._budgets.width} allowed"
            self._record(thread, [Note(kind=ViolationKind.TOO_MANY_CHILDREN, detail=detail)])
            asks = asks[: self._budgets.width]
        too_deep = len(thread.path) >= self._budgets.depth
        if too_deep:
            self._record(thread, [Note(kind=ViolationKind.TOO_DEEP, detail=f"depth {len(thread.path) + 1}")])
        edge = Edge(kind=EdgeKind.FORK, call=thread.last_call)
        first = len(thread.children)
        opened = [self._open_thread(thread, first + key, thread.last_call) for key in range(len(asks))]
        thread.children.extend(opened)
        commands: list[Command] = []
        for child, ask in zip(opened, asks, strict=True):
            commands += (
                self._finish(child, ThreadOutcome.BUDGET, None)
                if too_deep
                else self._issue(child, ask, (edge,))
            )
        if fork.resume is not None:
            return commands + self._issue(thread, fork.resume, self._next_edges(thread))
        thread.waiting, thread.barrier = opened, fork.barrier
        return commands + self._maybe_join(thread)

    def _finish(
        self, thread: _Thread, outcome: ThreadOutcome, value: tuple[Span, ...] | None
    ) -> list[Command]:
        thread.result = ThreadResult(thread=thread.index, key=thread.key, outcome=outcome, value=value)
        commands: list[Command] = []
        for child in thread.children:
            commands += self._cancel(child)
        parent = thread.parent
        if parent is not None and parent.waiting is not None and parent.result is None:
            commands += self._maybe_join(parent)
        return commands

    def _cancel(self, thread: _Thread) -> list[Command]:
        """End a thread and everything below it; calls in flight are aborted and still counted."""
        if thread.result is not None:
            return []
        thread.result = ThreadResult(
            thread=thread.index, key=thread.key, outcome=ThreadOutcome.CANCELLED, value=None
        )
        commands: list[Command] = []
        for call, pending in self._pending.items():
            if pending.thread is thread and not pending.cancelled:
                pending.cancelled = True
                commands.append(Cancel(call=call))
        for child in thread.children:
            commands += self._cancel(child)
        return commands

    def _maybe_join(self, thread: _Thread) -> list[Command]:
        assert thread.waiting is not None
        results = [child.result for child in thread.waiting if child.result is not None]
        if len(results) < len(thread.waiting) and not _satisfied(thread.barrier, results):
            return []
        waited = thread.waiting
        thread.waiting = None
        commands: list[Command] = []
        for child in waited:
            if child.result is None:
                commands += self._cancel(child)
            elif child.last_call is not None and self._calls[child.last_call] is not None:
                thread.joined.append(child.last_call)
        ordered = tuple(child.result for child in waited if child.result is not None)
        return commands + self._apply(thread, self._protocol.on_join(self._view(thread), ordered))


def _satisfied(barrier: Barrier, results: Sequence[ThreadResult]) -> bool:
    if barrier.kind is BarrierKind.FIRST_K:
        return sum(result.outcome is ThreadOutcome.RETURNED for result in results) >= barrier.k
    if barrier.kind is BarrierKind.PREDICATE:
        assert barrier.predicate is not None
        return barrier.predicate(results)
    return False


def _freeze(thread: _Thread) -> Thread:
    assert thread.result is not None
    return Thread(
        index=thread.index,
        parent=None if thread.parent is None else thread.parent.index,
        key=thread.key,
        opened_by=thread.opened_by,
        depth=len(thread.path),
        outcome=thread.result.outcome,
    )
