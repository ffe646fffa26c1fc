"""Canonical order of an episode's calls and threads, independent of the order in which calls came back.

Threads are ordered by path; calls by the DAG first, then by (path, number). So the record of an episode
depends on the sampled tokens alone, and not on how the host scheduled its calls.
"""

import heapq
from collections.abc import Sequence
from dataclasses import replace

from data.episodes.trajectory import Call, Edge, Ref, Span, Thread, Violation


def canonical(
    calls: Sequence[Call],
    threads: Sequence[Thread],
    paths: Sequence[tuple[int, ...]],
    answer: tuple[Span, ...] | None,
    violations: Sequence[Violation],
) -> tuple[tuple[Call, ...], tuple[Thread, ...], tuple[Span, ...] | None, tuple[Violation, ...]]:
    """The same episode with calls and threads renumbered. `paths`: one per thread."""
    thread_order = sorted(range(len(threads)), key=paths.__getitem__)
    thread_at = {old: new for new, old in enumerate(thread_order)}
    order = _call_order(calls, paths)
    call_at = {old: new for new, old in enumerate(order)}

    def spans(old: tuple[Span, ...]) -> tuple[Span, ...]:
        return tuple(replace(s, call=call_at[s.call]) if isinstance(s, Ref) else s for s in old)

    def edges(old: tuple[Edge, ...]) -> tuple[Edge, ...]:
        return tuple(replace(edge, call=call_at[edge.call]) for edge in old)

    renumbered = (
        replace(
            calls[old],
            index=new,
            thread=thread_at[calls[old].thread],
            context=spans(calls[old].context),
            after=edges(calls[old].after),
        )
        for new, old in enumerate(order)
    )
    rethreaded = (
        replace(
            threads[old],
            index=new,
            parent=None if (parent := threads[old].parent) is None else thread_at[parent],
            opened_by=None if (opener := threads[old].opened_by) is None else call_at[opener],
        )
        for new, old in enumerate(thread_order)
    )
    noted = (replace(violation, call=call_at[violation.call]) for violation in violations)
    return (
        tuple(renumbered),
        tuple(rethreaded),
        None if answer is None else spans(answer),
        tuple(sorted(noted, key=lambda v: (v.call, -1 if v.position is None else v.position))),
    )


def _call_order(calls: Sequence[Call], paths: Sequence[tuple[int, ...]]) -> list[int]:
    """Old indices in the new order: next is the smallest (path, old index) with all predecessors placed."""
    waits: list[set[int]] = [
        {edge.call for edge in call.after} | {s.call for s in call.context if isinstance(s, Ref)}
        for call in calls
    ]
    followers: list[list[int]] = [[] for _ in calls]
    for index, needed in enumerate(waits):
        for earlier in needed:
            followers[earlier].append(index)
    ready = [(paths[call.thread], call.index) for call in calls if not waits[call.index]]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        _, index = heapq.heappop(ready)
        order.append(index)
        for follower in followers[index]:
            waits[follower].discard(index)
            if not waits[follower]:
                heapq.heappush(ready, (paths[calls[follower].thread], follower))
    assert len(order) == len(calls), "the call DAG has no cycles"
    return order
