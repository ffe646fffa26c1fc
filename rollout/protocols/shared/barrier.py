"""What a waiting thread waits for, and when the wait is over."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from data.episodes.trajectory import Call, Limit, Span, ThreadOutcome


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadResult:
    """A thread as whoever waits for it sees it."""

    thread: int
    key: int
    """The thread's place among its siblings; of one that was begun anew, the first one's."""
    name: str
    """The name its protocol gave it."""
    outcome: ThreadOutcome | None
    """None: still running (only a barrier's `decide` meets such a one)."""
    value: tuple[Span, ...] | None
    ids: tuple[int, ...] | None
    """What `value` stands for."""
    success: bool
    calls: tuple[Call, ...]
    """Its finished calls: of a running thread, what it has said so far."""
    limit: Limit | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What a barrier's `decide` says."""

    join: bool = False
    """Enough is known: cancel whoever still runs and go on."""
    cancel: tuple[int, ...] = ()
    """Keys of running threads to stop, whether or not the wait is over."""


class BarrierKind(StrEnum):
    """What a waiting thread waits for."""

    ALL = "all"
    FIRST_K = "first_k"
    """The first `k` that returned; the others are cancelled."""
    FIRST_SUCCESS = "first_success"
    """The first `k` that returned what they were opened for; the others are cancelled."""
    PREDICATE = "predicate"
    """Until `decide(threads so far)` says so. It is asked after every call of a thread that is waited for, so
    a thread that speaks in several short calls is seen while it runs.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Barrier:
    """Default: all of them."""

    kind: BarrierKind = BarrierKind.ALL
    k: int = 0
    decide: Callable[[Sequence[ThreadResult]], Decision] | None = None


def decide(barrier: Barrier, results: Sequence[ThreadResult]) -> Decision:
    """Whether the wait is over, with some threads still running."""
    if barrier.kind is BarrierKind.FIRST_K:
        returned = sum(result.outcome is ThreadOutcome.RETURNED for result in results)
        return Decision(join=returned >= barrier.k)
    if barrier.kind is BarrierKind.FIRST_SUCCESS:
        return Decision(join=sum(result.success for result in results) >= barrier.k)
    if barrier.kind is BarrierKind.PREDICATE:
        assert barrier.decide is not None
        return barrier.decide(results)
    return Decision()
