"""Barriers: the threads that a parent waits for, and when the wait is over."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from data.episodes.trajectory import Call, Limit, Scoring, Span, ThreadOutcome


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadResult:
    """State of a thread, as the waiting thread gets it."""

    thread: int
    key: int
    """Key of the thread among its siblings; for a retry, the key of the first attempt."""
    name: str
    """The name its protocol gave it."""
    outcome: ThreadOutcome | None
    """How it ended; None: still running (only `decide` of a barrier gets such a thread)."""
    value: tuple[Span, ...] | None
    ids: tuple[int, ...] | None
    """Token ids that `value` stands for."""
    success: bool
    calls: tuple[Call, ...]
    """Finished calls of the thread, which may still be running."""
    limit: Limit | None = None
    memo: int = 0
    """`memo` of the thread's first call."""
    scorings: tuple[Scoring, ...] = ()
    """What it has asked the scorer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Result of a barrier's `decide`."""

    join: bool = False
    """Whether the wait is over; threads that still run are then cancelled."""
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
    """Wait until `decide(threads so far)` ends it. It is called after every call of an awaited thread, so it
    sees a thread with several short calls while that thread runs.
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
