"""The mutable books of a running episode: its threads, and the token budget of each."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from data.episodes.trajectory import Call, Edge, EdgeKind, Limit, Span, Thread, ThreadOutcome
from rollout.commands import CallResult
from rollout.protocols.shared.barrier import Barrier, ThreadResult
from rollout.protocols.shared.base import Ask, ThreadView
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
    first: Ask | None = None
    """Its first call, to begin anew with."""
    attempt: int = 0
    stands_for: int | None = None
    """Key of the failed thread in whose place this one was begun."""
    held_by: "list[LiveThread]" = field(default_factory=list)
    """Siblings that it waits for before it starts; emptied when it does."""
    after: tuple[Edge, ...] = ()
    """What its first call comes after, beside those."""
    calls: list[Call] = field(default_factory=list)
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
    """Calls whose results flow into this thread's next call."""
    allowance: int = 0
    """Tokens that it and all below it may sample."""
    spent: int = 0
    reserved: int = 0
    """Tokens that calls on their way may still sample."""

    @property
    def ended(self) -> bool:
        return self.outcome is not None

    @property
    def stood_for(self) -> int:
        """Its place among its siblings: the first one's key when it was begun anew."""
        return self.key if self.stands_for is None else self.stands_for

    def view(self, prompt: tuple[int, ...]) -> ThreadView:
        """What a protocol may know of it."""
        return ThreadView(
            path=self.path,
            prompt=prompt,
            calls=tuple(self.calls),
            num_forks=self.num_forks,
            name=self.name,
            memo=self.memo,
            opened=tuple(child.name for child in self.children if child.stands_for is None),
            joined=tuple(self.joined_names),
            results=tuple(self.results),
        )

    def result(self, ids: tuple[int, ...] | None) -> ThreadResult:
        """What whoever waits for it sees; `ids` are those of its value."""
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
        )

    def frozen(self) -> Thread:
        """Its place in the record."""
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
    """A call on its way, or in the queue for a slot."""

    thread: LiveThread
    ask: Ask
    after: tuple[Edge, ...]
    max_tokens: int
    cancelled: bool = False

    def finished(self, index: int, result: CallResult) -> Call:
        """Its place in the record."""
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


def replaced(thread: LiveThread) -> bool:
    """Whether another thread was begun in its place."""
    return thread.parent is not None and any(
        sibling.stands_for == thread.stood_for and sibling.attempt > thread.attempt
        for sibling in thread.parent.children
    )


def last_finished(thread: LiveThread, calls: Sequence[Call | None]) -> int | None:
    """The call of an ended thread that whoever waited for it comes after; None: it was cancelled, or never
    ran.
    """
    call = None if thread.outcome is ThreadOutcome.CANCELLED else thread.last_call
    return None if call is None or calls[call] is None else call


def next_edges(thread: LiveThread) -> tuple[Edge, ...]:
    """What a thread's next call comes after: its own last call, and those whose results it has waited for."""
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
    """Books tokens on a thread and on all above it."""
    node: LiveThread | None = thread
    while node is not None:
        node.spent += spent
        node.reserved += reserved
        node = node.parent


def child_allowance(parent: LiveThread, children: int, budgets: Budgets) -> int:
    """What each of `children` new threads may sample. See `Budgets.inherit`."""
    room = max(0, left(parent, budgets))
    return room // (children + 1) if budgets.inherit == "split" else room
