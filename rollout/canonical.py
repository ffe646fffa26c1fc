"""Canonical order of an episode's calls, threads and scorings, independent of the order of their ends.

Threads are ordered by path; calls by the DAG first, then by (path, number). So the record of an episode
depends on the sampled tokens alone, and not on how the host scheduled its calls.
"""

import heapq
from collections.abc import Sequence
from dataclasses import replace

from data.episodes.trajectory import Call, Edge, Episode, Ref, Scoring, Span, Thread, Violation


def canonical(
    names: tuple[str, str, str],
    calls: Sequence[Call],
    threads: Sequence[Thread],
    paths: Sequence[tuple[int, ...]],
    answer: tuple[Span, ...] | None,
    violations: Sequence[Violation],
    scorings: Sequence[Scoring],
) -> Episode:
    """The episode of these parts with calls and threads renumbered. `names`: id, problem id, protocol;
    `paths`: one per thread.
    """
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
    # Sorting is stable, and the questions of one thread come one after the other.
    asked = (
        replace(s, thread=thread_at[s.thread], calls=tuple(call_at[call] for call in s.calls))
        for s in scorings
    )
    noted = (replace(violation, call=call_at[violation.call]) for violation in violations)
    id, problem_id, protocol = names
    return Episode(
        id=id,
        problem_id=problem_id,
        protocol=protocol,
        calls=tuple(renumbered),
        threads=tuple(rethreaded),
        answer=None if answer is None else spans(answer),
        violations=tuple(sorted(noted, key=lambda v: (v.call, -1 if v.position is None else v.position))),
        scorings=tuple(sorted(asked, key=lambda scoring: scoring.thread)),
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
