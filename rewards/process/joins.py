"""Progress of a join: how much the results of joined threads moved the value of the thread that reads them.

    progress = score of the first step behind the results - score of the last step before the fork

A thread that waited has read the results when it writes on; its first step then shows what they were worth.
Where it wrote no step before the fork, its score is that of the thread's own beginning, as for differences of
steps. A join behind which no step is written has no progress.

Example: a parent's last step before it forks has 0.4. Two children return, and its first step behind their
results has 0.9: the join made a progress of 0.5, which is credited to every call of both children.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data.episodes.trajectory import EdgeKind, Episode
from rewards.score import CallReward


@dataclass(frozen=True, kw_only=True, slots=True)
class Join:
    """A call that read results, and what they were worth."""

    call: int
    threads: tuple[int, ...]
    """Threads whose results it read."""
    progress: float


def join_progress(episode: Episode, scores: Mapping[int, Sequence[float]], before: float) -> list[Join]:
    """The joins of an episode, in the order of the calls that read.

    Args:
        episode: whose calls they are.
        scores: call -> the scores of its steps, in order; calls without steps are left out.
        before: score of the problem before any step.
    """
    opened_by = [thread.opened_by for thread in episode.threads]
    at_end: dict[int, float] = {}
    of_thread: dict[int, float] = {}
    found: list[Join] = []
    for call in episode.calls:
        opener = opened_by[call.thread]
        start = of_thread.get(call.thread, before if opener is None else at_end[opener])
        mine = scores.get(call.index, ())
        read = threads_read(episode, call.index)
        if read and mine:
            found.append(Join(call=call.index, threads=read, progress=mine[0] - start))
        at_end[call.index] = of_thread[call.thread] = mine[-1] if mine else start
    return found


def threads_read(episode: Episode, call: int) -> tuple[int, ...]:
    """The threads that a call has waited for, in the order of its edges; () where it joins none."""
    edges = [edge for edge in episode.calls[call].after if edge.kind is EdgeKind.JOIN]
    return tuple(dict.fromkeys(episode.calls[edge.call].thread for edge in edges))


def rewards_of_joins(episode: Episode, joins: Sequence[Join]) -> tuple[CallReward, ...]:
    """The progress of each join, for every call of the threads whose results were read."""
    return tuple(
        CallReward(call=call.index, value=join.progress)
        for join in joins
        for call in episode.calls
        if call.thread in join.threads and call.index < join.call and call.output
    )
