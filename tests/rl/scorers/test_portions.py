"""Results in portions: all of them, in order, none held back, and not too many ahead."""

import threading
from collections.abc import Iterator

import pytest

from rl.scorers.portions import portions


@pytest.mark.parametrize("ahead", [0, 1, 8])
def test_all_results_in_order_behind_an_empty_list(ahead: int) -> None:
    begin, *found = portions(iter(range(100)), ahead)
    assert begin == []
    assert [result for portion in found for result in portion] == list(range(100))
    assert all(1 <= len(portion) <= ahead + 1 for portion in found)  # those that wait, and one just taken
    assert list(portions(iter(()), ahead)) == [[]]


def test_one_by_one_nothing_is_made_ahead() -> None:
    begun: list[int] = []

    def results() -> Iterator[int]:
        for number in range(3):
            begun.append(number)
            yield number

    stream = portions(results(), 0)
    assert (next(stream), begun) == ([], [])
    assert (next(stream), begun) == ([0], [0])
    assert list(stream) == [[1], [2]]


def test_a_result_is_not_held_back_for_the_next_one() -> None:
    may_go_on = threading.Event()

    def results() -> Iterator[int]:
        yield 1
        may_go_on.wait(10)
        yield 2

    stream = portions(results(), 8)
    assert next(stream) == [] and next(stream) == [1]
    may_go_on.set()
    assert list(stream) == [[2]]


def test_what_was_made_meanwhile_comes_together() -> None:
    made = threading.Event()

    def results() -> Iterator[int]:
        yield from range(4)
        made.set()

    stream = portions(results(), 8)
    next(stream)
    first = next(stream)
    made.wait(10)
    assert first + next(stream, []) == [0, 1, 2, 3]


def test_at_most_so_many_are_ahead() -> None:
    """Two wait in the queue, and a third is made and cannot be put."""
    begun: list[int] = []

    def results() -> Iterator[int]:
        for number in range(10):
            begun.append(number)
            yield number

    stream = portions(results(), 2)
    next(stream)
    taken = len(next(stream))
    threading.Event().wait(0.3)
    assert len(begun) <= taken + 3
    assert taken + sum(map(len, stream)) == 10


def test_an_error_comes_behind_the_results_before_it() -> None:
    def results() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("cannot be read")

    found: list[int] = []
    with pytest.raises(ValueError, match="cannot be read"):
        for portion in portions(results(), 8):
            found += portion
    assert found == [1, 2]


def test_its_thread_ends_with_whoever_takes_no_more() -> None:
    before = threading.active_count()
    stream = portions(iter(range(1_000)), 1)
    assert next(stream) == [] and next(stream)[0] == 0
    assert threading.active_count() == before + 1
    stream.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if thread.name == "portions":
            thread.join(5)
    assert threading.active_count() == before
