"""Mutable state of a running episode: its threads and their token budgets."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from data.episodes.trajectory import (
    Call,
    Edge,
    EdgeKind,
    Limit,
    Scoring,
    Span,
    Thread,
    ThreadOutcome,
    ViolationKind,
)
from data.text.prompt import Prompt
from rollout.commands import CallResult
from rollout.protocols.shared.barrier import Barrier, ThreadResult
from rollout.protocols.shared.base import Ask, Note, ThreadView
from rollout.protocols.shared.params import Budgets


@dataclass(kw_only=True, slots=True)
class LiveThread:
    """A thread while the episode runs."""

    index: int
    parent: "LiveThread | None"
    key: int
    path: tuple[int, ...]
    opened_by: int | None
    name: str = ""
    memo: int = 0
    task: tuple[Span, ...] = ()
    first: Ask | None = None
    """First call, sampled again when the thread is retried."""
    attempt: int = 0
    stands_for: int | None = None
    """Key of the failed thread that this one replaces."""
    held_by: "list[LiveThread]" = field(default_factory=list)
    """Siblings that must end before this thread starts; emptied then."""
    after: tuple[Edge, ...] = ()
    """Calls that its first call comes after, besides those of `held_by`."""
    calls: list[Call] = field(default_factory=list)
    scorings: list[Scoring] = field(default_factory=list)
    """Answered questions to the scorer."""
    children: "list[LiveThread]" = field(default_factory=list)
    num_forks: int = 0
    waiting: "list[LiveThread] | None" = None
    barrier: Barrier = field(default_factory=Barrier)
    joined_names: list[str] = field(default_factory=list)
    results: list[ThreadResult] = field(default_factory=list)
    outcome: ThreadOutcome | None = None
    value: tuple[Span, ...] | None = None
    success: bool = False
    limit: Limit | None = None
    last_call: int | None = None
    joined: list[int] = field(default_factory=list)
    """Calls whose results enter this thread's next call."""
    allowance: int = 0
    """Tokens that the thread and all its descendants may sample."""
    spent: int = 0
    reserved: int = 0
    """Tokens that calls in flight may still sample."""

    @property
    def ended(self) -> bool:
        return self.outcome is not None

    @property
    def stood_for(self) -> int:
        """Key among its siblings; for a retry, the key of the first attempt."""
        return self.key if self.stands_for is None else self.stands_for

    def view(self, prompt: Prompt) -> ThreadView:
        """The part of the state that a protocol sees."""
        return ThreadView(
            path=self.path,
            prompt=prompt,
            calls=tuple(self.calls),
            num_forks=self.num_forks,
            name=self.name,
            memo=self.memo,
            task=self.task,
            opened=tuple(child.name for child in self.children if child.stands_for is None),
            joined=tuple(self.joined_names),
            results=tuple(self.results),
            said=() if self.first is None else self.first.said,
            scorings=tuple(self.scorings),
        )

    def result(self, ids: tuple[int, ...] | None) -> ThreadResult:
        """The result for the threads that wait for it. `ids`: token ids of its value."""
        return ThreadResult(
            thread=self.index,
            key=self.stood_for,
            name=self.name,
            outcome=self.outcome,
            value=self.value,
            ids=ids,
            success=self.success,
            calls=tuple(self.calls),
            limit=self.limit,
            memo=self.memo,
            scorings=tuple(self.scorings),
        )

    def join(self, children: "Sequence[LiveThread]", calls: Sequence[int | None]) -> None:
        """End the wait for children; `calls`: the call of each that the next call comes after, if any."""
        self.waiting = None
        self.joined_names += [child.name for child in children]
        self.joined += [call for call in calls if call is not None]

    def frozen(self) -> Thread:
        """The thread as it is recorded."""
        assert self.outcome is not None
        return Thread(
            index=self.index,
            parent=None if self.parent is None else self.parent.index,
            key=self.key,
            opened_by=self.opened_by,
            depth=len(self.path),
            outcome=self.outcome,
            limit=self.limit,
            success=self.success,
        )


@dataclass(kw_only=True, slots=True)
class PendingCall:
    """A call in flight, or waiting for a slot."""

    thread: LiveThread
    ask: Ask
    after: tuple[Edge, ...]
    max_tokens: int
    cancelled: bool = False

    def finished(self, index: int, result: CallResult) -> Call:
        """The call as it is recorded, with its result."""
        size, trained = len(result.output), self.ask.trained
        return Call(
            index=index,
            thread=self.thread.index,
            role=self.ask.role,
            context=self.ask.context,
            output=result.output,
            logprobs=result.logprobs,
            versions=result.versions,
            stop=result.stop,
            after=self.after,
            num_trained=size if trained is None else min(trained, size),
            seed=result.seed,
            cached_tokens=result.cached_tokens,
            started_s=result.started_s,
            finished_s=result.finished_s,
        )


def open_child(threads: list[LiveThread], parent: LiveThread, ask: Ask, allowance: int) -> LiveThread:
    """A new child of `parent`, added to `threads`. `ask`: its first call; `allowance`: its token budget."""
    key = len(parent.children)
    child = LiveThread(
        index=len(threads),
        parent=parent,
        key=key,
        path=(*parent.path, key),
        opened_by=parent.last_call,
        name=ask.name or str(key),
        memo=ask.memo,
        task=ask.task,
        first=ask,
        allowance=allowance,
    )
    threads.append(child)
    parent.children.append(child)
    return child


def substitute(failed: LiveThread, child: LiveThread) -> None:
    """Let a sibling take the role of a failed thread: its name, and its place in every wait."""
    parent = failed.parent
    assert parent is not None
    child.name, child.opened_by, child.attempt = failed.name, failed.opened_by, failed.attempt + 1
    child.stands_for = failed.stood_for
    if parent.waiting is not None:
        parent.waiting = [child if waited is failed else waited for waited in parent.waiting]
    for sibling in parent.children:
        sibling.held_by = [child if needed is failed else needed for needed in sibling.held_by]


def awaitable(thread: LiveThread, names: tuple[str, ...]) -> list[LiveThread]:
    """Children with these names (all for ()) that were neither joined nor replaced."""
    named = names or tuple(child.name for child in thread.children)
    return [
        child
        for child in thread.children
        if child.name in named and child.name not in thread.joined_names and not replaced(child)
    ]


def fork_notes(thread: LiveThread, children: int, budgets: Budgets) -> list[Note]:
    """Violations of a fork into `children` threads; none for a fork before the first call."""
    notes = []
    if thread.last_call is not None and children > budgets.width:
        detail = f"{children} children, {budgets.width} allowed"
        notes.append(Note(kind=ViolationKind.TOO_MANY_CHILDREN, detail=detail))
    if thread.last_call is not None and len(thread.path) >= budgets.depth:
        notes.append(Note(kind=ViolationKind.TOO_DEEP, detail=f"depth {len(thread.path) + 1}"))
    return notes


def replaced(thread: LiveThread) -> bool:
    """Whether a retry has replaced the thread."""
    return thread.parent is not None and any(
        sibling.stands_for == thread.stood_for and sibling.attempt > thread.attempt
        for sibling in thread.parent.children
    )


def last_finished(thread: LiveThread, calls: Sequence[Call | None]) -> int | None:
    """Index of the call of an ended thread that its waiters come after; None when the thread was cancelled or
    never ran.
    """
    call = None if thread.outcome is ThreadOutcome.CANCELLED else thread.last_call
    return None if call is None or calls[call] is None else call


def next_edges(thread: LiveThread) -> tuple[Edge, ...]:
    """Edges of a thread's next call: from its own last call, and from the calls it has joined."""
    own = () if thread.last_call is None else (Edge(kind=EdgeKind.NEXT, call=thread.last_call),)
    joins = tuple(Edge(kind=EdgeKind.JOIN, call=call) for call in thread.joined)
    thread.joined = []
    return (*own, *joins)


def left(thread: LiveThread, budgets: Budgets) -> int:
    """Tokens that a thread may still sample: the smallest token budget from it up to the root.

    The root's budget is the episode's; of that, `reserve_tokens` are for the root alone.
    """
    room = budgets.total_tokens
    node: LiveThread | None = thread
    while node is not None:
        kept = budgets.reserve_tokens if node.parent is None and node is not thread else 0
        room = min(room, node.allowance - node.spent - node.reserved - kept)
        node = node.parent
    return room


def charge(thread: LiveThread, *, spent: int = 0, reserved: int = 0) -> None:
    """Add spent and reserved tokens to a thread and all its ancestors."""
    node: LiveThread | None = thread
    while node is not None:
        node.spent += spent
        node.reserved += reserved
        node = node.parent


def child_allowance(parent: LiveThread, children: int, budgets: Budgets) -> int:
    """Tokens that each of `children` new threads may sample, by `Budgets.inherit`."""
    room = max(0, left(parent, budgets))
    return room // (children + 1) if budgets.inherit == "split" else room
