"""What is watched during training, on episodes small enough to count by hand."""

from typing import Any

import pytest
from episodes import call, episode
from hypothesis import given, settings
from hypothesis import strategies as st

from data.episodes.monitors import ngrams, observe, shares, similar
from data.episodes.trajectory import EdgeKind, Episode, Forced, Limit, Ref, StopReason, ThreadOutcome

PROMPT = Forced(ids=(9,))


def ref(index: int, start: int = 0, stop: int = 1) -> Ref:
    return Ref(call=index, start=start, stop=stop)


def forked(*outputs: tuple[int, ...], told: tuple[int, ...] | None = None, **given: Any) -> Episode:
    """A root that forks one thread an output and goes on, reading of the threads in `told` (default: all)."""
    children = [call(index, index, output, (0,)) for index, output in enumerate(outputs, start=1)]
    read = range(1, len(outputs) + 1) if told is None else told
    context = (PROMPT, *(ref(index) for index in read if children[index - 1].output))
    last = call(len(outputs) + 1, 0, 4, range(len(outputs) + 1), context=context)
    return episode((call(0, 0, 5), *children, last), **given)


# duplicates


def test_ngrams_and_their_overlap_by_hand() -> None:
    assert ngrams((1, 2, 3, 4)) == {(1, 2, 3), (2, 3, 4)}
    assert ngrams((1, 2)) == {(1, 2)}
    assert ngrams(()) == frozenset()
    six = ngrams((1, 2, 3, 4, 5, 6))  # four pieces
    assert similar(six, ngrams((1, 2, 3, 4, 5, 6, 7)))  # 4 of 5
    assert not similar(six, ngrams((1, 2, 3, 4, 5, 6, 7, 8)))  # 4 of 6
    assert not similar(six, ngrams((1, 2, 3, 9, 5, 6)))  # 1 of 7
    assert not similar(ngrams(()), ngrams(()))


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), max_size=8), st.lists(st.integers(0, 3), max_size=8))
def test_overlap_is_the_jaccard_index(first: list[int], second: list[int]) -> None:
    left, right = ngrams(first), ngrams(second)
    union = left | right
    assert similar(left, right) == (bool(union) and 10 * len(left & right) >= 8 * len(union))
    assert similar(left, right) == similar(right, left)


def test_only_the_later_of_two_like_siblings_is_a_duplicate() -> None:
    a, b = (1, 2, 3, 4, 5, 6), (6, 5, 4, 3, 2, 1)
    assert observe(forked(a, b, a, a)).duplicate == 2
    assert observe(forked(a, b)).duplicate == 0
    assert observe(forked((), ())).duplicate == 0  # aborted before they said anything


def test_a_thread_may_say_again_what_it_waited_for() -> None:
    """A second round and a restarted thread count; waiting for a slot does not."""
    a = (1, 2, 3, 4)
    for kind, duplicates in [(EdgeKind.JOIN, 0), (EdgeKind.RETRY, 0), (EdgeKind.SLOT, 1)]:
        calls = (call(0, 0, 5), call(1, 1, a, (0,)), call(2, 2, a, (1,), edge=kind))
        assert observe(episode(calls)).duplicate == duplicates


def test_cousins_are_no_duplicates() -> None:
    """Threads 3 and 4 say the same below different parents."""
    a = (1, 2, 3, 4)
    calls = (call(0, 0, 5), call(1, 1, (7, 7, 7), (0,)), call(2, 2, (8, 8, 8), (0,)), call(3, 3, a, (1,)))
    nested = episode((*calls, call(4, 4, a, (2,))), parents={3: 1, 4: 2}, opened_by={3: 1, 4: 2})
    assert observe(nested).duplicate == 0
    assert nested.threads[4].depth == 2


# spurious parallelism


def test_a_thread_that_nobody_reads_is_spurious() -> None:
    seen = observe(forked((1,), (2,), (3,), told=(1, 3)))
    assert (seen.returned, seen.spurious) == (3, 1)
    cut = forked((1,), (2,), (3,), told=(1, 3), outcomes={2: ThreadOutcome.TRUNCATED})
    assert (observe(cut).returned, observe(cut).spurious) == (2, 0)  # it did not pretend to have a result


def test_the_answer_reads_too() -> None:
    """A vote: one thread's own words are the answer, the others are not read."""
    vote = episode((call(0, 1, 3), call(1, 2, 3), call(2, 3, 3)), opened_by={1: None, 2: None, 3: None})
    assert observe(vote).spurious == 3
    voted = episode(vote.calls, opened_by={1: None, 2: None, 3: None}, answer=(ref(1),))
    assert observe(voted).spurious == 2


def test_what_a_thread_reads_of_itself_and_its_children_of_it_does_not_count() -> None:
    calls = (
        call(0, 0, 5),
        call(1, 1, 3, (0,)),
        call(2, 2, 3, (1,), context=(ref(1),)),  # thread 1's own child
        call(3, 1, 3, (1, 2), context=(ref(1), ref(2))),
    )
    lost = observe(episode(calls, parents={2: 1}, opened_by={2: 1}))
    assert (lost.returned, lost.spurious) == (2, 1)  # thread 2 was read by thread 1, which nobody read
    empty = (*calls, call(4, 0, 3, (0, 3), context=(Ref(call=3, start=1, stop=1),)))
    assert observe(episode(empty, parents={2: 1}, opened_by={2: 1})).spurious == 1


# what siblings see of each other


def siblings(context: tuple[Any, ...], after: tuple[int, ...]) -> Episode:
    """Thread 1 speaks twice; thread 2's call has this context and waited for these calls."""
    calls = (call(0, 0, 5), call(1, 1, 3, (0,)), call(2, 1, 3, (1,), context=(ref(1),)))
    return episode((*calls, call(3, 2, 3, after, context=context)))


@pytest.mark.parametrize(
    ("context", "after", "sees", "leaks"),
    [
        ((ref(0),), (0,), 0, 0),  # the parent's words
        ((ref(0), ref(1)), (0,), 1, 1),  # a sibling's that it did not wait for
        ((ref(1),), (0, 2), 1, 0),  # it waited for call 2, which waited for call 1
        ((ref(1), ref(2)), (0, 1), 1, 1),  # it waited for call 1 only
        ((Ref(call=1, start=1, stop=1),), (0,), 0, 0),  # nothing of it
    ],
)
def test_sibling_text_by_spans_and_edges(
    context: tuple[Any, ...], after: tuple[int, ...], sees: int, leaks: int
) -> None:
    seen = observe(siblings(context, after))
    assert (seen.ran, seen.sees_sibling, seen.leaks) == (2, sees, leaks)


def test_text_from_below_a_sibling_is_a_sibling_s() -> None:
    calls = (call(0, 0, 5), call(1, 1, 3, (0,)), call(2, 2, 3, (0,)), call(3, 3, 3, (1,)))
    reads = call(4, 2, 3, (2, 3), context=(ref(3),))
    nested = episode((*calls, reads), parents={3: 1}, opened_by={3: 1})
    assert (observe(nested).sees_sibling, observe(nested).leaks) == (1, 0)
    own = call(4, 1, 3, (1, 3), context=(ref(3),))  # its parent, which is what it was opened for
    assert observe(episode((*calls, own), parents={3: 1}, opened_by={3: 1})).sees_sibling == 0


# serial collapse


@pytest.mark.parametrize(
    ("root", "children", "serial"),
    [
        (50, (), True),  # never forked
        (50, (40,), True),  # one thread at a time
        (10, (40, 4), True),  # 10 + 40 + 4 (the rest of the root) = 54 on the path, 4 < 5.4 beside it
        (10, (40, 6), False),
        (10, (20, 20), False),
        (200, (5, 5, 5), True),  # 209 on the path, 10 beside it
    ],
)
def test_serial_collapse(root: int, children: tuple[int, ...], serial: bool) -> None:
    made = [call(index, index, size, (0,)) for index, size in enumerate(children, start=1)]
    last = call(len(children) + 1, 0, 4, range(len(children) + 1))
    assert observe(episode((call(0, 0, root), *made, last))).serial is serial


# outcomes and shares


def ended() -> Episode:
    """Four threads asked for: one returned, one was cancelled after 6 tokens, one was cut off, and one was
    refused; the root ran out of its budget.
    """
    calls = (
        call(0, 0, 5),
        call(1, 1, (1, 2, 3), (0,)),
        call(2, 2, 6, (0,), stop=StopReason.ABORT),
        call(3, 3, 6, (0,), stop=StopReason.LENGTH),
        call(4, 0, 4, (0, 1, 3), context=(ref(1),)),
    )
    return episode(
        calls,
        threads=5,
        outcomes={
            0: ThreadOutcome.BUDGET,
            2: ThreadOutcome.CANCELLED,
            3: ThreadOutcome.TRUNCATED,
            4: ThreadOutcome.BUDGET,
        },
        limits={0: Limit.TOTAL_TOKENS, 3: Limit.CALL, 4: Limit.WIDTH},
    )


def test_endings_by_hand() -> None:
    seen = observe(ended())
    assert (seen.ran, seen.total_tokens, seen.cancelled_tokens) == (3, 24, 6)
    assert seen.outcome == "budget"
    assert seen.children == {"budget": 1, "cancelled": 1, "returned": 1, "truncated": 1}
    assert seen.limits == {"call": 1, "total_tokens": 1, "width": 1}


def test_shares_of_two_episodes_by_hand() -> None:
    """`ended`, whose threads 2 and 3 say the same, and two threads of one token of which one is read."""
    found = shares([observe(ended()), observe(forked((1,), (2,), told=(2,)))])
    asked = {
        "share/duplicate_threads": 1 / 5,  # of 3 + 2 that ran
        "share/sibling_threads": 0.0,
        "share/leaks": 0.0,
        "share/spurious_threads": 1 / 3,  # of 1 + 2 that returned
        "share/serial_collapse": 0.0,  # 5 + 6 + 4 on the path and 9 beside; 10 on the path and 1 beside: 10%
        "share/cancelled_tokens": 6 / 35,  # of 24 + 11
        "outcome/root_budget": 1 / 2,
        "outcome/root_returned": 1 / 2,
        "outcome/child_returned": 3 / 6,  # of 4 + 2
        "outcome/child_budget": 1 / 6,
        "outcome/child_cancelled": 1 / 6,
        "outcome/child_truncated": 1 / 6,
        "limit/total_tokens": 1 / 8,  # of 5 + 3 threads, roots too
        "limit/call": 1 / 8,
        "limit/width": 1 / 8,
    }
    assert {name: value for name, value in found.items() if value} == pytest.approx(
        {name: value for name, value in asked.items() if value}
    )
    assert asked.keys() <= found.keys()


def test_names_do_not_depend_on_what_happened() -> None:
    assert shares([]).keys() == shares([observe(ended())]).keys()
    assert set(shares([]).values()) == {0.0}
    assert sum(value for name, value in shares([observe(ended())]).items() if "child_" in name) == 1.0
