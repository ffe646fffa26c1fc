"""Actions of a protocol: what a thread does next."""

from dataclasses import dataclass, field

from data.episodes.trajectory import Call, Limit, Ref, Span, ThreadOutcome, ViolationKind
from rollout.protocols.shared.barrier import Barrier
from rollout.protocols.shared.tags import Stops


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """A call to make: its context, what ends it, and its most output tokens."""

    role: str
    context: tuple[Span, ...]
    stops: Stops
    max_tokens: int
    trained: int | None = None
    """Leading output tokens that carry loss; None means all."""
    name: str = ""
    """Name by which the parent awaits a child; set on the child's first call."""
    memo: int = 0
    """Number that the protocol gets back in every view of the thread; set on its first call."""
    task: tuple[Span, ...] = ()
    """Spans of the context that tell a thread what to do, for a protocol that lays it out anew; set on its
    first call.
    """
    said: tuple[Call, ...] = ()
    """Finished calls of other threads whose text this one continues, for the protocol to read; set on a
    thread's first call.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A violation seen in the thread's last call; the machine adds which call."""

    kind: ViolationKind
    position: int | None = None
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Continue:
    """Continue the thread with another call."""

    ask: Ask
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Fork:
    """Open child threads and wait for them; with `resume` continue at once and `Await` them later."""

    children: tuple[Ask, ...]
    needs: tuple[tuple[int, ...], ...] = ()
    """Threads that each child needs: for each child the indices in `children`, smaller than its own, of those
    that must end before it starts; `on_ready` then completes its first call. () when no child needs another.
    """
    barrier: Barrier = field(default_factory=Barrier)
    resume: Ask | None = None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Await:
    """Wait for threads that this one opened earlier, by name; () means all that were not joined yet.

    An unknown name is ignored; with no thread to wait for, `on_join` is called at once with ().
    """

    names: tuple[str, ...] = ()
    barrier: Barrier = field(default_factory=Barrier)
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class AskScorer:
    """Ask the scorer how good the texts of calls are; `on_scores` is called with the answer in the view.

    Calls are the thread's own or those of threads it has joined. When the scorer fails, the thread ends as
    FAILED.
    """

    calls: tuple[int, ...]
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Return:
    """End the thread. For the root, `value` is the episode's answer."""

    outcome: ThreadOutcome
    value: tuple[Span, ...] | None
    notes: tuple[Note, ...] = ()
    success: bool = False
    """Whether the thread reports success."""
    limit: Limit | None = None


Action = Continue | Fork | Await | AskScorer | Return


def whole(call: Call) -> Ref:
    """Reference to all of a call's output."""
    return Ref(call=call.index, start=0, stop=len(call.output))


def cut_off() -> Return:
    """The end of a thread whose last call was cut off at its token limit."""
    return Return(outcome=ThreadOutcome.TRUNCATED, value=None, limit=Limit.CALL)


def malformed(kind: ViolationKind, position: int | None = None, detail: str = "") -> Return:
    """The end of a thread that broke the protocol and cannot continue."""
    note = Note(kind=kind, position=position, detail=detail)
    return Return(outcome=ThreadOutcome.MALFORMED, value=None, notes=(note,))
