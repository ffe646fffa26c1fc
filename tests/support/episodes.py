"""Episodes built call by call, for tests of what is computed from them."""

from collections.abc import Mapping, Sequence
from typing import Any

from data.episodes.trajectory import (
    Call,
    Edge,
    EdgeKind,
    Episode,
    Forced,
    Limit,
    Span,
    StopReason,
    Thread,
    ThreadOutcome,
)


def call(
    index: int, thread: int, output: int | Sequence[int], after: Sequence[int] = (), **given: Any
) -> Call:
    """`output`: its ids, or how many; `after`: the calls it waited for; `seconds`: how long it took."""
    ids = tuple(range(output)) if isinstance(output, int) else tuple(output)
    context: tuple[Span, ...] = given.get("context", (Forced(ids=(3,)),))
    return Call(
        index=index,
        thread=thread,
        role="any",
        context=context,
        output=ids,
        logprobs=(),
        versions=(),
        stop=given.get("stop", StopReason.STOP),
        after=tuple(Edge(kind=given.get("edge", EdgeKind.FORK), call=other) for other in after),
        num_trained=len(ids),
        finished_s=given.get("seconds", 0.0),
    )


def episode(
    calls: Sequence[Call],
    *,
    parents: Mapping[int, int] | None = None,
    opened_by: Mapping[int, int | None] | None = None,
    outcomes: Mapping[int, ThreadOutcome] | None = None,
    limits: Mapping[int, Limit] | None = None,
    threads: int | None = None,
    **given: Any,
) -> Episode:
    """Threads are the root's children, opened by call 0, and returned, unless said otherwise."""
    parents, opened_by, outcomes, limits = parents or {}, opened_by or {}, outcomes or {}, limits or {}
    made: list[Thread] = []
    for index in range(threads or 1 + max((call.thread for call in calls), default=0)):
        parent = None if index == 0 else parents.get(index, 0)
        made.append(
            Thread(
                index=index,
                parent=parent,
                key=sum(other.parent == parent for other in made),
                opened_by=None if index == 0 else opened_by.get(index, 0),
                depth=0 if parent is None else made[parent].depth + 1,
                outcome=outcomes.get(index, ThreadOutcome.RETURNED),
                limit=limits.get(index),
            )
        )
    return Episode(
        id="0/0",
        problem_id="p",
        protocol="any",
        calls=tuple(calls),
        threads=tuple(made),
        answer=given.get("answer"),
        violations=given.get("violations", ()),
    )
