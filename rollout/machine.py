"""The books of one running episode: call DAG, threads, barriers, budgets. Sans-IO: results in, commands out.

    machine = EpisodeMachine(protocol, prompt, ...)
    commands = machine.begin()
    while not machine.done: commands = machine.on_result(index, result)
    episode = machine.episode()

Whatever a model samples, the machine ends: every call is bounded by the budgets, every fork by width and
depth, and a protocol that asks for what is not allowed gets a typed outcome instead of an exception.
"""

from collections.abc import Sequence

from data.episodes.trajectory import (
    Call,
    Edge,
    EdgeKind,
    Episode,
    Forced,
    Limit,
    Span,
    StopReason,
    ThreadOutcome,
    Violation,
    ViolationKind,
)
from data.tasks.search_tree import SearchTree
from rollout.canonical import canonical
from rollout.commands import CallResult, Cancel, Command, Generate
from rollout.protocols.shared.barrier import BarrierKind, decide
from rollout.protocols.shared.base import (
    Action,
    Ask,
    Continue,
    Fork,
    Note,
    Return,
    ThinkingProtocol,
    ThreadResult,
)
from rollout.protocols.shared.params import ForkingParams
from rollout.threads import (
    LiveThread,
    PendingCall,
    charge,
    child_allowance,
    last_finished,
    left,
    next_edges,
    replaced,
)


class EpisodeMachine:
    """State machine of one episode. See the module."""

    def __init__(
        self,
        protocol: ThinkingProtocol,
        prompt: tuple[int, ...],
        *,
        id: str,
        problem_id: str,
        max_length: int,
    ) -> None:
        """`prompt` [P]: the task's ids; `max_length`: longest context + output of one call, in tokens."""
        self._protocol = protocol
        self._prompt = prompt
        self._id = id
        self._problem_id = problem_id
        self._budgets = protocol.params.budgets
        self._max_length = max_length
        self._calls: list[Call | None] = []
        self._clock: list[int] = []
        """Sampled tokens on the longest path up to and including each call."""
        self._pending: dict[int, PendingCall] = {}
        self._queue: list[PendingCall] = []
        """Calls that wait for a slot, in the order of their asking."""
        self._threads: list[LiveThread] = []
        self._violations: list[Violation] = []
        self._late = False

    @property
    def done(self) -> bool:
        """The root has ended and every call has come back."""
        return bool(self._threads) and self._threads[0].ended and not self._pending

    @property
    def deadline(self) -> float | None:
        """Seconds since the episode began at which `on_clock` wants to be called; None: never (again)."""
        if self._budgets.seconds is None or not self._threads or self._threads[0].ended:
            return None
        return self._budgets.seconds + (self._budgets.grace_seconds if self._late else 0.0)

    def begin(self, tree: SearchTree | None = None) -> list[Command]:
        """First commands. `tree` only when a demonstration is built."""
        assert not self._threads, "begin() is called once"
        root = LiveThread(index=0, parent=None, key=0, path=(), opened_by=None)
        root.allowance = self._budgets.total_tokens
        self._threads.append(root)
        return self._apply(root, self._protocol.open(self._prompt, tree)) + self._fill_slots(None)

    def on_result(self, call: int, result: CallResult) -> list[Command]:
        """A call came back. Returns what to do next."""
        pending = self._pending.pop(call)
        thread = pending.thread
        charge(thread, spent=len(result.output), reserved=-pending.max_tokens)
        done = pending.finished(call, result)
        self._calls[call] = done
        self._clock[call] += len(result.output)
        thread.calls.append(done)
        thread.last_call = call
        return self._after_call(thread, done) + self._fill_slots(call)

    def on_clock(self, seconds: float) -> list[Command]:
        """So many seconds have passed since the episode began: what the wall-clock budget has to say."""
        deadline = self.deadline
        if deadline is None or seconds < deadline:
            return []
        root = self._threads[0]
        if self._late or not self._budgets.grace_seconds:
            self._late = True
            return self._stop(root, ThreadOutcome.BUDGET, Limit.SECONDS)
        self._late = True
        commands: list[Command] = []
        for child in root.children:
            commands += self._stop(child, ThreadOutcome.BUDGET, Limit.SECONDS)
        return commands + self._fill_slots(None)

    def episode(self) -> Episode:
        """The finished episode; only when `done`."""
        assert self.done, "the episode is still running"
        calls = tuple(call for call in self._calls if call is not None)
        assert len(calls) == len(self._calls)
        calls, threads, answer, violations = canonical(
            calls,
            [thread.frozen() for thread in self._threads],
            [thread.path for thread in self._threads],
            self._threads[0].value,
            self._violations,
        )
        return Episode(
            id=self._id,
            problem_id=self._problem_id,
            protocol=self._protocol.name,
            calls=calls,
            threads=threads,
            answer=answer,
            violations=violations,
        )

    def _after_call(self, thread: LiveThread, call: Call) -> list[Command]:
        if thread.ended:
            return []
        if call.stop is StopReason.ABORT:
            return self._finish(thread, Return(outcome=ThreadOutcome.CANCELLED, value=None))
        if call.stop is StopReason.ERROR:
            return self._finish(thread, Return(outcome=ThreadOutcome.FAILED, value=None))
        action = self._protocol.on_call(thread.view(self._prompt))
        commands: list[Command] = []
        watched = thread.parent is not None and thread.parent.barrier.kind is BarrierKind.PREDICATE
        if watched and not isinstance(action, Return):
            # Asked before the thread goes on: its parent may have heard enough.
            commands = self._maybe_join(thread.parent)
        # A thread that was stopped just now says no more.
        return commands if thread.outcome is not None else commands + self._apply(thread, action)

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

    def _result(self, thread: LiveThread) -> ThreadResult:
        return thread.result(None if thread.value is None else self._resolve(thread.value))

    def _issue(self, thread: LiveThread, ask: Ask, after: tuple[Edge, ...]) -> list[Command]:
        """Make a call when there is a slot, else queue it."""
        pending = PendingCall(thread=thread, ask=ask, after=after, max_tokens=0)
        if len(self._pending) >= self._budgets.live_calls:
            self._queue.append(pending)
            return []
        return self._start(pending)

    def _start(self, pending: PendingCall) -> list[Command]:
        """Make a call, as long as context and budgets allow; else the thread ends with a typed outcome."""
        thread, ask = pending.thread, pending.ask
        prompt = self._resolve(ask.context)
        clock = max((self._clock[edge.call] for edge in pending.after), default=0)
        rooms = {
            Limit.CONTEXT: self._max_length - len(prompt),
            Limit.TOTAL_TOKENS: left(thread, self._budgets),
            Limit.CRITICAL_TOKENS: self._budgets.critical_tokens - clock,
        }
        limit = min(rooms, key=rooms.__getitem__)
        if rooms[limit] < 1:
            outcome = ThreadOutcome.TRUNCATED if limit is Limit.CONTEXT else ThreadOutcome.BUDGET
            return self._finish(thread, Return(outcome=outcome, value=None, limit=limit))
        pending.max_tokens = min(ask.max_tokens, rooms[limit])
        charge(thread, reserved=pending.max_tokens)
        index = len(self._calls)
        self._calls.append(None)
        self._clock.append(clock)
        self._pending[index] = pending
        thread.last_call = index
        return [
            Generate(
                call=index,
                prompt=prompt,
                stops=ask.stops,
                max_tokens=pending.max_tokens,
                path=thread.path,
                number=len(thread.calls),
            )
        ]

    def _fill_slots(self, freed_by: int | None) -> list[Command]:
        commands: list[Command] = []
        while self._queue and len(self._pending) < self._budgets.live_calls:
            pending = self._queue.pop(0)
            if pending.thread.ended:
                continue
            if freed_by is not None and all(edge.call != freed_by for edge in pending.after):
                pending.after = (*pending.after, Edge(kind=EdgeKind.SLOT, call=freed_by))
            commands += self._start(pending)
        return commands

    def _apply(self, thread: LiveThread, action: Action) -> list[Command]:
        self._record(thread, action.notes)
        if isinstance(action, Continue):
            return self._issue(thread, action.ask, next_edges(thread))
        if isinstance(action, Return):
            return self._finish(thread, action)
        if isinstance(action, Fork):
            return self._fork(thread, action)
        named = action.names or tuple(child.name for child in thread.children)
        awaited = [
            child
            for child in thread.children
            if child.name in named and child.name not in thread.joined_names and not replaced(child)
        ]
        thread.waiting, thread.barrier = awaited, action.barrier
        return self._maybe_join(thread)

    def _record(self, thread: LiveThread, notes: Sequence[Note]) -> None:
        for note in notes:
            assert thread.last_call is not None
            self._violations.append(
                Violation(kind=note.kind, call=thread.last_call, position=note.position, detail=note.detail)
            )

    def _fork(self, thread: LiveThread, fork: Fork) -> list[Command]:
        assert fork.children, "a fork opens at least one thread"
        thread.num_forks += 1
        width, depth = self._budgets.width, self._budgets.depth
        asked, too_deep = len(fork.children), len(thread.path) >= depth
        if thread.last_call is not None and asked > width:
            note = Note(kind=ViolationKind.TOO_MANY_CHILDREN, detail=f"{asked} children, {width} allowed")
            self._record(thread, [note])
        if thread.last_call is not None and too_deep:
            self._record(thread, [Note(kind=ViolationKind.TOO_DEEP, detail=f"depth {len(thread.path) + 1}")])
        allowance = child_allowance(thread, min(asked, width), self._budgets)
        opened = [self._open_child(thread, ask, allowance) for ask in fork.children]
        # A fork right after a join: the children too had to wait for what was joined.
        edges = tuple(Edge(kind=EdgeKind.JOIN, call=call) for call in thread.joined)
        if thread.last_call is not None:
            edges = (Edge(kind=EdgeKind.FORK, call=thread.last_call), *edges)
        assert all(index < number for number, needs in enumerate(fork.needs) for index in needs)
        commands: list[Command] = []
        if fork.resume is not None:
            # First of all: whoever goes on does not queue behind its own children.
            commands += self._issue(thread, fork.resume, next_edges(thread))
        for number, child in enumerate(opened):
            refused = (
                Limit.SECONDS if self._late else Limit.DEPTH if too_deep
                else Limit.WIDTH if number >= width else None
            )  # fmt: skip
            if refused is not None:
                commands += self._finish(
                    child, Return(outcome=ThreadOutcome.BUDGET, value=None, limit=refused)
                )
            elif not child.ended:
                child.after = edges
                child.held_by = [opened[index] for index in fork.needs[number]] if fork.needs else []
                commands += [] if child.held_by else self._begin_child(child)
        commands += self._release(thread)
        if fork.resume is not None:
            return commands
        thread.waiting, thread.barrier = opened, fork.barrier
        return commands + self._maybe_join(thread)

    def _open_child(self, parent: LiveThread, ask: Ask, allowance: int) -> LiveThread:
        key = len(parent.children)
        child = LiveThread(
            index=len(self._threads),
            parent=parent,
            key=key,
            path=(*parent.path, key),
            opened_by=parent.last_call,
            name=ask.name or str(key),
            memo=ask.memo,
            first=ask,
            allowance=allowance,
        )
        self._threads.append(child)
        parent.children.append(child)
        return child

    def _begin_child(self, child: LiveThread) -> list[Command]:
        assert child.first is not None
        needed, child.held_by = child.held_by, []
        if needed:
            child.first = self._protocol.on_ready(child.first, tuple(map(self._result, needed)))
        calls = (last_finished(thread, self._calls) for thread in needed)
        joins = (Edge(kind=EdgeKind.JOIN, call=call) for call in calls if call is not None)
        return self._issue(child, child.first, (*child.after, *joins))

    def _release(self, parent: LiveThread) -> list[Command]:
        """Begins the children that were held by threads which have all ended."""
        commands: list[Command] = []
        for child in [] if self._late else parent.children:
            if child.held_by and not child.ended and all(needed.ended for needed in child.held_by):
                commands += self._begin_child(child)
        return commands

    def _finish(self, thread: LiveThread, end: Return) -> list[Command]:
        if thread.ended:
            return []
        thread.outcome, thread.value, thread.limit = end.outcome, end.value, end.limit
        thread.success = end.success and end.outcome is ThreadOutcome.RETURNED
        commands: list[Command] = []
        for child in thread.children:
            commands += self._stop(child, ThreadOutcome.CANCELLED, None)
        parent = thread.parent
        if parent is None or parent.ended:
            return commands
        if end.outcome in FAILURES and isinstance(self._protocol.params, ForkingParams):
            policy = self._protocol.params
            if policy.on_failure == "fail":
                return commands + self._stop(self._threads[0], ThreadOutcome.CHILD_FAILED, None)
            if policy.on_failure == "retry" and thread.calls and thread.attempt < policy.retries:
                return commands + self._begin_anew(thread, parent)
        if parent.waiting is not None:
            commands += self._maybe_join(parent)
        return commands + self._release(parent)

    def _begin_anew(self, failed: LiveThread, parent: LiveThread) -> list[Command]:
        """Another thread in place of a failed one; a path of its own gives it another seed."""
        assert failed.first is not None and failed.last_call is not None
        child = self._open_child(parent, failed.first, failed.allowance)
        child.name, child.opened_by, child.attempt = failed.name, failed.opened_by, failed.attempt + 1
        child.stands_for = failed.stood_for
        if parent.waiting is not None:
            parent.waiting = [child if waited is failed else waited for waited in parent.waiting]
        for sibling in parent.children:
            sibling.held_by = [child if needed is failed else needed for needed in sibling.held_by]
        edge = Edge(kind=EdgeKind.RETRY, call=failed.last_call)
        return self._issue(child, failed.first, (edge,))

    def _stop(self, thread: LiveThread, outcome: ThreadOutcome, limit: Limit | None) -> list[Command]:
        """End a thread and everything below it; calls in flight are aborted and still counted."""
        if thread.ended:
            return []
        thread.outcome, thread.limit = outcome, limit
        commands: list[Command] = []
        for call, pending in self._pending.items():
            if pending.thread is thread and not pending.cancelled:
                pending.cancelled = True
                commands.append(Cancel(call=call))
        for child in thread.children:
            commands += self._stop(child, ThreadOutcome.CANCELLED, None)
        parent = thread.parent
        if outcome is not ThreadOutcome.CANCELLED and parent is not None and parent.waiting is not None:
            commands += self._maybe_join(parent)
        return commands

    def _maybe_join(self, thread: LiveThread | None) -> list[Command]:
        if thread is None or thread.waiting is None or thread.ended:
            return []
        commands: list[Command] = []
        running = [child for child in thread.waiting if not child.ended]
        if running:
            decision = decide(thread.barrier, [self._result(child) for child in thread.waiting])
            for child in running:
                if decision.join or child.stood_for in decision.cancel:
                    commands += self._stop(child, ThreadOutcome.CANCELLED, None)
            if any(not child.ended for child in thread.waiting):
                return commands + self._release(thread)
        waited = thread.waiting
        thread.waiting = None
        for child in waited:
            thread.joined_names.append(child.name)
            call = last_finished(child, self._calls)
            thread.joined += [] if call is None else [call]
        results = tuple(self._result(child) for child in waited)
        thread.results += results
        return commands + self._apply(thread, self._protocol.on_join(thread.view(self._prompt), results))


FAILURES = frozenset({ThreadOutcome.TRUNCATED, ThreadOutcome.MALFORMED, ThreadOutcome.FAILED})
"""Outcomes of a child that `on_failure` speaks of. A budget that is used up is no failure of the thread."""
