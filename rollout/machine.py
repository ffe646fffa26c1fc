"""State machine of one episode: call DAG, threads, barriers, budgets. Sans-IO: results in, commands out.

    machine = EpisodeMachine(protocol, prompt, ...)
    commands = machine.begin()
    while not machine.done: commands = machine.on_result(index, result)    # or on_scores, on_clock
    episode = machine.episode()

The machine ends whatever a model samples: budgets bound every call, width and depth bound every fork, and a
protocol that asks for more than is allowed gets a typed outcome instead of an exception.
"""

from collections.abc import Sequence

from data.episodes.trajectory import (
    Call,
    Edge,
    EdgeKind,
    Episode,
    Limit,
    StopReason,
    ThreadOutcome,
    Violation,
)
from data.tasks.search_tree import SearchTree
from data.text.prompt import Prompt
from rollout.call_table import CallTable
from rollout.canonical import canonical
from rollout.commands import CallResult, Command, Generate, ScoreResult
from rollout.protocols.shared.barrier import BarrierKind, decide
from rollout.protocols.shared.base import (
    Action,
    Ask,
    AskScorer,
    Continue,
    Fork,
    Note,
    Return,
    ThinkingProtocol,
    ThreadResult,
)
from rollout.protocols.shared.params import ForkingParams
from rollout.scoring_table import ScoringTable
from rollout.threads import (
    LiveThread,
    PendingCall,
    awaitable,
    child_allowance,
    fork_notes,
    last_finished,
    next_edges,
    open_child,
    substitute,
)


class EpisodeMachine:
    """State of one episode: its threads, its calls, its violations."""

    def __init__(
        self, protocol: ThinkingProtocol, prompt: Prompt, *, id: str, problem_id: str, max_length: int
    ) -> None:
        """`prompt`: the problem; `max_length`: longest context + output of one call, in tokens."""
        self._protocol = protocol
        self._prompt = prompt
        self._id = id
        self._problem_id = problem_id
        self._budgets = protocol.params.budgets
        self.table = CallTable(protocol.params.budgets, max_length)
        """The calls, for whoever watches the episode."""
        self._scorings = ScoringTable(self.table)
        self.threads: list[LiveThread] = []
        """The threads in the order of their opening, likewise."""
        self._violations: list[Violation] = []
        self._late = False

    @property
    def done(self) -> bool:
        """Whether the root has ended and every call has come back."""
        return bool(self.threads) and self.threads[0].ended and self.table.idle

    @property
    def deadline(self) -> float | None:
        """Seconds since the start at which `on_clock` is due; None when no deadline remains."""
        if self._budgets.seconds is None or not self.threads or self.threads[0].ended:
            return None
        return self._budgets.seconds + (self._budgets.grace_seconds if self._late else 0.0)

    def begin(self, tree: SearchTree | None = None) -> list[Command]:
        """-> the first commands. `tree` is given only when a demonstration is built."""
        assert not self.threads, "begin() is called once"
        root = LiveThread(index=0, parent=None, key=0, path=(), opened_by=None)
        root.allowance = self._budgets.total_tokens
        self.threads.append(root)
        opening = self._protocol.open(self._prompt, tree)
        if isinstance(opening, Continue):
            root.name, root.memo, root.task = opening.ask.name, opening.ask.memo, opening.ask.task
        return self._apply(root, opening) + self._fill_slots(None)

    def on_result(self, call: int, result: CallResult) -> list[Command]:
        """Apply the result of a call. -> the next commands."""
        thread, done = self.table.finish(call, result)
        return self._after_call(thread, done) + self._fill_slots(call)

    def on_scores(self, scoring: int, result: ScoreResult) -> list[Command]:
        """Apply the scorer's answer to a question. -> the next commands."""
        thread = self._scorings.finish(scoring, result)
        action = _FAILED if result.failure else self._protocol.on_scores(thread.view(self._prompt))
        return self._go_on(thread, action) + self._fill_slots(None)

    def on_clock(self, seconds: float) -> list[Command]:
        """Apply the wall-clock budget after `seconds` since the start. -> the next commands."""
        deadline = self.deadline
        if deadline is None or seconds < deadline:
            return []
        root = self.threads[0]
        if self._late or not self._budgets.grace_seconds:
            self._late = True
            return self._stop(root, ThreadOutcome.BUDGET, Limit.SECONDS)
        self._late = True
        stopped = [self._stop(child, ThreadOutcome.BUDGET, Limit.SECONDS) for child in root.children]
        return [command for commands in stopped for command in commands] + self._fill_slots(None)

    def on_give_up(self) -> list[Command]:
        """End every thread, since nobody waits for the episode any more. -> commands that abort its calls."""
        return self._stop(self.threads[0], ThreadOutcome.CANCELLED, None)

    def episode(self) -> Episode:
        """The finished episode; only when `done`."""
        assert self.done, "the episode is still running"
        return canonical(
            (self._id, self._problem_id, self._protocol.name),
            self.table.finished(),
            [thread.frozen() for thread in self.threads],
            [thread.path for thread in self.threads],
            self.threads[0].value,
            self._violations,
            self._scorings.finished(),
        )

    def _after_call(self, thread: LiveThread, call: Call) -> list[Command]:
        if thread.ended:
            return []
        if call.stop is StopReason.ABORT:
            return self._finish(thread, Return(outcome=ThreadOutcome.CANCELLED, value=None))
        if call.stop is StopReason.ERROR:
            return self._finish(thread, _FAILED)
        return self._go_on(thread, self._protocol.on_call(thread.view(self._prompt)))

    def _go_on(self, thread: LiveThread, action: Action) -> list[Command]:
        watched = thread.parent is not None and thread.parent.barrier.kind is BarrierKind.PREDICATE
        # Evaluated before the thread continues: its parent may not need it any more.
        commands = self._maybe_join(thread.parent) if watched and not isinstance(action, Return) else []
        # The join may have stopped this thread; then its action is dropped.
        return commands if thread.outcome is not None else commands + self._apply(thread, action)

    def _result(self, thread: LiveThread) -> ThreadResult:
        return thread.result(None if thread.value is None else self.table.resolve(thread.value))

    def _issue(self, thread: LiveThread, ask: Ask, after: tuple[Edge, ...]) -> list[Command]:
        """Make a call if there is a slot, else queue it."""
        pending = PendingCall(thread=thread, ask=ask, after=after, max_tokens=0)
        if not self.table.has_slot:
            self.table.enqueue(pending)
            return []
        return self._start(pending)

    def _start(self, pending: PendingCall) -> list[Command]:
        """Make a call if context and budgets allow it; else its thread ends with a typed outcome."""
        started = self.table.start(pending)
        if isinstance(started, Generate):
            return [started]
        return self._finish(pending.thread, _over(started))

    def _fill_slots(self, freed_by: int | None) -> list[Command]:
        commands: list[Command] = []
        while (pending := self.table.next_queued(freed_by)) is not None:
            commands += self._start(pending)
        return commands

    def _apply(self, thread: LiveThread, action: Action) -> list[Command]:
        self._violations += _violations_of(thread, action.notes)
        if isinstance(action, Continue):
            return self._issue(thread, action.ask, next_edges(thread))
        if isinstance(action, Return):
            return self._finish(thread, action)
        if isinstance(action, AskScorer):
            return [self._scorings.ask(thread, action.calls)]
        if isinstance(action, Fork):
            return self._fork(thread, action)
        thread.waiting, thread.barrier = awaitable(thread, action.names), action.barrier
        return self._maybe_join(thread)

    def _fork(self, thread: LiveThread, fork: Fork) -> list[Command]:
        assert fork.children, "a fork opens at least one thread"
        thread.num_forks += 1
        width = self._budgets.width
        asked, too_deep = len(fork.children), len(thread.path) >= self._budgets.depth
        self._violations += _violations_of(thread, fork_notes(thread, asked, self._budgets))
        allowance = child_allowance(thread, min(asked, width), self._budgets)
        opened = [open_child(self.threads, thread, ask, allowance) for ask in fork.children]
        # A fork right after a join: the children come after the joined calls too.
        edges = tuple(Edge(kind=EdgeKind.JOIN, call=call) for call in thread.joined)
        if thread.last_call is not None:
            edges = (Edge(kind=EdgeKind.FORK, call=thread.last_call), *edges)
        assert all(index < number for number, needs in enumerate(fork.needs) for index in needs)
        commands: list[Command] = []
        if fork.resume is not None:
            # The parent's call first: it must not queue behind those of its own children.
            commands += self._issue(thread, fork.resume, next_edges(thread))
        for number, child in enumerate(opened):
            refused = (
                Limit.SECONDS if self._late else Limit.DEPTH if too_deep
                else Limit.WIDTH if number >= width else None
            )  # fmt: skip
            if refused is not None:
                commands += self._finish(child, _over(refused))
            elif not child.ended:
                child.after = edges
                child.held_by = [opened[index] for index in fork.needs[number]] if fork.needs else []
                commands += [] if child.held_by else self._begin_child(child)
        commands += self._release(thread)
        if fork.resume is not None:
            return commands
        thread.waiting, thread.barrier = opened, fork.barrier
        return commands + self._maybe_join(thread)

    def _begin_child(self, child: LiveThread) -> list[Command]:
        assert child.first is not None
        needed, child.held_by = child.held_by, []
        if needed:
            child.first = self._protocol.on_ready(child.first, tuple(map(self._result, needed)))
        calls = (last_finished(thread, self.table.calls) for thread in needed)
        joins = (Edge(kind=EdgeKind.JOIN, call=call) for call in calls if call is not None)
        return self._issue(child, child.first, (*child.after, *joins))

    def _release(self, parent: LiveThread) -> list[Command]:
        """Start the children whose needed threads have all ended."""
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
                return commands + self._stop(self.threads[0], ThreadOutcome.CHILD_FAILED, None)
            if policy.on_failure == "retry" and thread.calls and thread.attempt < policy.retries:
                return commands + self._begin_anew(thread, parent)
        if parent.waiting is not None:
            commands += self._maybe_join(parent)
        return commands + self._release(parent)

    def _begin_anew(self, failed: LiveThread, parent: LiveThread) -> list[Command]:
        """Replace a failed thread by a new one; its own path gives it other seeds."""
        assert failed.first is not None and failed.last_call is not None
        child = open_child(self.threads, parent, failed.first, failed.allowance)
        substitute(failed, child)
        return self._issue(child, failed.first, (Edge(kind=EdgeKind.RETRY, call=failed.last_call),))

    def _stop(self, thread: LiveThread, outcome: ThreadOutcome, limit: Limit | None) -> list[Command]:
        """End a thread and everything below it; calls in flight are aborted and still counted."""
        if thread.ended:
            return []
        thread.outcome, thread.limit = outcome, limit
        commands: list[Command] = [*self.table.cancel(thread), *self._scorings.withdraw(thread)]
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
        thread.join(waited, [last_finished(child, self.table.calls) for child in waited])
        results = tuple(self._result(child) for child in waited)
        thread.results += results
        return commands + self._apply(thread, self._protocol.on_join(thread.view(self._prompt), results))


def _over(limit: Limit) -> Return:
    """The end of a thread that a limit leaves nothing to sample."""
    outcome = ThreadOutcome.TRUNCATED if limit is Limit.CONTEXT else ThreadOutcome.BUDGET
    return Return(outcome=outcome, value=None, limit=limit)


_FAILED = Return(outcome=ThreadOutcome.FAILED, value=None)
FAILURES = frozenset({ThreadOutcome.TRUNCATED, ThreadOutcome.MALFORMED, ThreadOutcome.FAILED})
"""Outcomes of a child that `on_failure` applies to. An exhausted budget is no failure of the thread."""


def _violations_of(thread: LiveThread, notes: Sequence[Note]) -> list[Violation]:
    """The notes of a protocol, as violations of the thread's last call."""
    assert thread.last_call is not None or not notes
    return [
        Violation(kind=note.kind, call=thread.last_call, position=note.position, detail=note.detail)
        for note in notes
        if thread.last_call is not None
    ]
