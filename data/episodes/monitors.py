"""Monitors of forking: exact measures of how it goes wrong while a model learns to think in parallel.

PARL (Kimi K2.5, arXiv 2602.02276) names serial collapse and spurious parallelism without defining them; the
definitions here are this project's. They use spans, edges, outcomes and token ids, never text.

    duplicate   a thread whose output is nearly that of a sibling running beside it (Jaccard of their n-grams)
    spurious    a thread that returned, but whose output is never read: neither by a later call outside the
                thread nor in the answer. Losers of a vote that are not read count
    sibling     a thread that reads a sibling's output, because it was forked later or declared the need; its
                work is not independent
    leak        such a thread that did not wait for what it reads, so that its context depended on timing
    serial      an episode with less than 10% of its critical path beside that path: it never forked, or all
                threads but one did next to nothing, or the threads are small against the rest
    cancelled   a thread that no call waited for any more; its tokens were wasted

Threads are counted if they made a call. Siblings are children of one parent; they run beside each other when
neither waited for the other (waits for a free slot aside).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from data.episodes.topology import concurrency, total_tokens
from data.episodes.trajectory import Call, EdgeKind, Episode, Limit, Ref, ThreadOutcome

NGRAM = 3
"""Length (tokens) of the n-grams that outputs are compared by."""
SIMILAR = 0.8
"""Jaccard index from which on two outputs count as duplicates."""
SERIAL = 0.1
"""Tokens beside the critical path, as a share of it, below which an episode is serial."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observed:
    """Results of the monitors on one episode. Counts are of threads beside the root unless noted."""

    ran: int
    returned: int
    """Threads that ran and returned."""
    duplicate: int
    spurious: int
    sees_sibling: int
    leaks: int
    serial: bool
    total_tokens: int
    cancelled_tokens: int
    outcome: str
    """Outcome of the root thread."""
    children: Mapping[str, int] = field(default_factory=dict)
    """Threads beside the root by outcome, including refused ones that never ran."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """Threads, including the root, by the limit that ended them."""


def observe(episode: Episode) -> Observed:
    """Run all monitors on one episode."""
    runs = calls_by_thread(episode)
    below = [thread for thread in runs if thread]
    waited = waited_for(episode)
    leaks = [sibling_text(episode, runs, waited, thread) for thread in below]
    cancelled = (t.index for t in episode.threads if t.outcome is ThreadOutcome.CANCELLED)
    returned = [t for t in below if episode.threads[t].outcome is ThreadOutcome.RETURNED]
    read = threads_read(episode)
    return Observed(
        ran=len(below),
        returned=len(returned),
        duplicate=len(duplicates(episode, runs, waited)),
        spurious=sum(thread not in read for thread in returned),
        sees_sibling=sum(seen for seen, _ in leaks),
        leaks=sum(leak for _, leak in leaks),
        serial=concurrency(episode) < 1 + SERIAL,
        total_tokens=total_tokens(episode),
        cancelled_tokens=sum(len(call.output) for t in cancelled for call in runs.get(t, ())),
        outcome=episode.outcome.value,
        children=_counted(thread.outcome.value for thread in episode.threads[1:]),
        limits=_counted(thread.limit.value for thread in episode.threads if thread.limit is not None),
    )


def shares(observed: Sequence[Observed]) -> dict[str, float]:
    """Metrics of several episodes by their names in `metrics.jsonl`; 0 where the denominator is 0.

    share/duplicate_threads, sibling_threads, leaks   of threads that ran
    share/spurious_threads                            of threads that ran and returned
    share/serial_collapse                             of episodes
    share/cancelled_tokens                            of all sampled tokens
    outcome/root_*                                    of episodes
    outcome/child_*                                   of threads beside the root, refused ones too
    limit/*                                           of all threads: those that this limit ended
    """
    ran = sum(item.ran for item in observed)
    children = sum(sum(item.children.values()) for item in observed)
    found = {
        "share/duplicate_threads": _share(sum(item.duplicate for item in observed), ran),
        "share/sibling_threads": _share(sum(item.sees_sibling for item in observed), ran),
        "share/leaks": _share(sum(item.leaks for item in observed), ran),
        "share/spurious_threads": _share(
            sum(item.spurious for item in observed), sum(item.returned for item in observed)
        ),
        "share/serial_collapse": _share(sum(item.serial for item in observed), len(observed)),
        "share/cancelled_tokens": _share(
            sum(item.cancelled_tokens for item in observed), sum(item.total_tokens for item in observed)
        ),
    }
    for outcome in ThreadOutcome:
        roots = sum(item.outcome == outcome.value for item in observed)
        ended = sum(item.children.get(outcome.value, 0) for item in observed)
        found[f"outcome/root_{outcome.value}"] = _share(roots, len(observed))
        found[f"outcome/child_{outcome.value}"] = _share(ended, children)
    for limit in Limit:
        ended = sum(item.limits.get(limit.value, 0) for item in observed)
        found[f"limit/{limit.value}"] = _share(ended, children + len(observed))
    return found


def calls_by_thread(episode: Episode) -> dict[int, list[Call]]:
    """Thread index -> its calls in order, for threads that made any."""
    runs: dict[int, list[Call]] = {}
    for call in episode.calls:
        runs.setdefault(call.thread, []).append(call)
    return dict(sorted(runs.items()))


def waited_for(episode: Episode) -> list[int]:
    """[C] for each call a bit set of the calls it waited for, directly or indirectly, slots aside."""
    sets: list[int] = []
    for call in episode.calls:
        before = 0
        for edge in call.after:
            if edge.kind is not EdgeKind.SLOT:
                before |= sets[edge.call] | 1 << edge.call
        sets.append(before)
    return sets


def duplicates(episode: Episode, runs: Mapping[int, Sequence[Call]], waited: Sequence[int]) -> list[int]:
    """Threads whose output is nearly that of an earlier sibling running beside them.

    Example (3-grams, 0.8): outputs 1 2 3 4 5 6 and 1 2 3 4 5 6 7 share 4 of 5 pieces: 0.8, a duplicate;
    1 2 3 4 5 6 and 1 2 3 9 5 6 share 1 of 7.
    """
    pieces = {t: ngrams([i for call in calls for i in call.output]) for t, calls in runs.items() if t}
    found = []
    for thread in pieces:
        for other in pieces:
            if other >= thread:
                break
            if (
                episode.threads[other].parent == episode.threads[thread].parent
                and not _waited(runs[thread], runs[other], waited)
                and not _waited(runs[other], runs[thread], waited)
                and similar(pieces[other], pieces[thread])
            ):
                found.append(thread)
                break
    return found


def ngrams(ids: Sequence[int]) -> frozenset[tuple[int, ...]]:
    """All n-grams of NGRAM tokens. A shorter output is one n-gram; an empty one has none."""
    if len(ids) < NGRAM:
        return frozenset({tuple(ids)} if ids else ())
    return frozenset(tuple(ids[place : place + NGRAM]) for place in range(len(ids) - NGRAM + 1))


def similar(first: frozenset[tuple[int, ...]], second: frozenset[tuple[int, ...]]) -> bool:
    """Whether the Jaccard index reaches SIMILAR. Two empty sets are not similar."""
    fewer, more = sorted((len(first), len(second)))
    if not fewer or fewer < SIMILAR * more:
        return False
    shared = len(first & second)
    return shared >= SIMILAR * (fewer + more - shared)


def threads_read(episode: Episode) -> set[int]:
    """Threads whose output appears in the answer, or in the context of a call outside them and outside the
    threads below them.
    """
    found = {episode.calls[ref.call].thread for ref in _refs(episode.answer or ())}
    for call in episode.calls:
        line = {call.thread, *_above(episode, call.thread)}
        found |= {t for ref in _refs(call.context) if (t := episode.calls[ref.call].thread) not in line}
    return found


def sibling_text(
    episode: Episode, runs: Mapping[int, Sequence[Call]], waited: Sequence[int], thread: int
) -> tuple[bool, bool]:
    """(sees, leaks): whether a thread's contexts hold output of a sibling or of a thread below one, and
    whether any of that output is of a call that the reading call did not wait for.
    """
    parent = episode.threads[thread].parent
    seen = leak = False
    for call in runs[thread]:
        for ref in _refs(call.context):
            author = episode.calls[ref.call].thread
            line = {author, *_above(episode, author)}
            if thread not in line and any(episode.threads[t].parent == parent for t in line):
                seen = True
                leak |= not waited[call.index] >> ref.call & 1
    return seen, leak


def _waited(calls: Sequence[Call], others: Sequence[Call], waited: Sequence[int]) -> bool:
    """Whether the first of `calls` waited for any of `others`."""
    return any(waited[calls[0].index] >> other.index & 1 for other in others)


def _above(episode: Episode, thread: int) -> Iterator[int]:
    """Parent, grandparent, and so on."""
    parent = episode.threads[thread].parent
    while parent is not None:
        yield parent
        parent = episode.threads[parent].parent


def _refs(spans: Sequence[object]) -> Iterator[Ref]:
    return (span for span in spans if isinstance(span, Ref) and len(span))


def _counted(names: Iterator[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
