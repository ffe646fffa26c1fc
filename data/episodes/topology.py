"""Cost and shape of an episode: pure queries on the call DAG.

Definitions (the systems' own names for them differ; these are used throughout):
    total_tokens      tokens sampled by all calls, cancelled ones included
    critical_tokens   longest path through the DAG, each call weighing its sampled tokens; at a join the
                      path is the maximum over what was waited for, so asynchronous joins need no special case
    total_seconds     measured durations of all calls, added up
    critical_seconds  the longest path on those durations
    token clock       time counted in sampled tokens: every call begins when the last of what it waited for
                      has ended, and lasts as long as its output
    concurrency       mean number of calls active on that clock; the peak is the largest
    width             threads beside the root that ran
    depth             deepest nesting of threads (0: never forked)
    activation        share of episodes that forked (the "parallel ratio" of Parallel-R1)
    scorer_tokens     tokens of the texts that a scorer was asked for, a beginning that texts of one question
                      share once; a question that was withdrawn counts too. No part of the sampled tokens
    probe_tokens      tokens sampled by probes after the episode had ended; no part of its own
    scorer_seconds    measured durations of all questions, added up; no part of the seconds of the calls
    parallel share    tokens sampled outside the root thread / total_tokens (ThreadWeaver's token ratio)
"""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

from data.episodes.trajectory import Call, Episode


def longest_path(calls: Sequence[Call], weight: Callable[[Call], float]) -> float:
    """Largest sum of weights along the edges `after`; 0 when there are no calls."""
    reach: list[float] = []
    for call in calls:
        reach.append(weight(call) + max((reach[edge.call] for edge in call.after), default=0.0))
    return max(reach, default=0.0)


def total_tokens(episode: Episode) -> int:
    """Tokens sampled by all calls, cancelled ones included."""
    return sum(len(call.output) for call in episode.calls)


def critical_tokens(episode: Episode) -> int:
    """Sampled tokens on the longest path."""
    return int(longest_path(episode.calls, lambda call: len(call.output)))


def critical_seconds(episode: Episode) -> float:
    """Measured seconds on the longest path, that is, without waiting for free slots or engines."""
    return longest_path(episode.calls, lambda call: call.finished_s - call.started_s)


def total_seconds(episode: Episode) -> float:
    """Measured seconds of all calls, added up in the order of the calls."""
    return sum(call.finished_s - call.started_s for call in episode.calls)


def scorer_tokens(episode: Episode) -> int:
    """Tokens that the scorer was given to read, counted apart from those that were sampled.

    Example: one question for 1 2 3 and 1 2 4 5 reads 5 tokens, 1 2 once.
    """
    read = 0
    for scoring in episode.scorings:
        calls = [episode.calls[index] for index in scoring.calls]
        read += distinct_tokens([episode.context_ids(call) + call.output for call in calls])
    return read


def probe_tokens(episode: Episode) -> int:
    """Tokens that probes sampled, counted apart from those of the episode's own calls."""
    return sum(len(probe.call.output) for probe in episode.probes)


def scorer_seconds(episode: Episode) -> float:
    """Measured seconds of all questions to the scorer, added up."""
    return sum(scoring.finished_s - scoring.started_s for scoring in episode.scorings)


def distinct_tokens(texts: Sequence[tuple[int, ...]]) -> int:
    """Tokens of texts in one trie: beginnings that several share count once."""
    ordered = sorted(texts)
    shared = 0
    for left, right in pairwise(ordered):
        # In sorted order a text shares most with the one in front of it.
        size = min(len(left), len(right))
        shared += next((place for place in range(size) if left[place] != right[place]), size)
    return sum(map(len, ordered)) - shared


def token_clock(episode: Episode) -> tuple[tuple[int, int], ...]:
    """[C] (begin, end) of every call on the token clock.

    Example: a root of 30 tokens forks children of 70 and 200 and goes on for 10 after both:
        ((0, 30), (30, 100), (30, 230), (230, 240))
    """
    times: list[tuple[int, int]] = []
    for call in episode.calls:
        begin = max((times[edge.call][1] for edge in call.after), default=0)
        times.append((begin, begin + len(call.output)))
    return tuple(times)


def concurrency(episode: Episode) -> float:
    """Mean number of active calls, (1/T) sum over t of a_t, with T the end of the token clock; 0 without
    tokens.

    Each call is active for as many ticks as it samples tokens, so the sum is `total_tokens`; T is
    `critical_tokens`. Hence total / critical, at least 1, and 1 / (1 - eta) for the eta of
    rewards.terms.parallelism. The example of `token_clock`: 310 / 240 = 1.29.
    """
    critical = critical_tokens(episode)
    return total_tokens(episode) / critical if critical else 0.0


def peak_concurrency(episode: Episode) -> int:
    """Most calls active at one tick of the token clock."""
    changes = sorted(
        change for begin, end in token_clock(episode) if end > begin for change in ((begin, 1), (end, -1))
    )
    # At equal times ends come before beginnings.
    return max(accumulate((step for _, step in changes), initial=0))


def width(episode: Episode) -> int:
    """Threads beside the root that made a call; a thread refused by a budget made none."""
    return len({call.thread for call in episode.calls} - {0})


def unique_width(episode: Episode) -> int:
    """Threads whose first context differs from every earlier sibling's: others repeat the same search."""
    first: dict[int, Call] = {}
    for call in episode.calls:
        first.setdefault(call.thread, call)
    first.pop(0, None)
    return len(
        {(episode.threads[thread].opened_by, episode.context_ids(call)) for thread, call in first.items()}
    )


def depth(episode: Episode) -> int:
    """Deepest nesting of threads; 0 without a fork."""
    return max(thread.depth for thread in episode.threads)


def parallel_share(episode: Episode) -> float:
    """Share of sampled tokens that lie outside the root thread."""
    total = total_tokens(episode)
    outside = sum(len(call.output) for call in episode.calls if call.thread != 0)
    return outside / total if total else 0.0
