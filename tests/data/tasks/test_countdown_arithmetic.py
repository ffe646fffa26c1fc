"""The rules of Countdown's arithmetic, and reachability against plain search."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.tasks.countdown_arithmetic import OPERATIONS, apply, finals, moves, reachable

NUMBERS = st.lists(st.integers(1, 12), min_size=2, max_size=4)


@pytest.mark.parametrize(
    ("a", "op", "b", "value"),
    [
        (4, "+", 9, 13),
        (4, "-", 9, 5),  # absolute difference
        (9, "-", 9, None),  # 0 is not allowed
        (4, "*", 9, 36),
        (7, "*", 9, None),  # 63 > 60
        (3, "/", 9, 3),  # larger by smaller
        (9, "/", 4, None),  # not exact
        (9, "/", 1, None),  # divisor above 1
        (9, "/", 9, 1),
        (30, "+", 30, 60),  # the cap itself is allowed
        (31, "+", 30, None),
    ],
)
def test_apply(a, op, b, value):
    assert apply(a, op, b, 60) == value


def test_finals_follow_the_order_of_operations():
    assert finals(36, 6, 60) == (42, 30, None, 6)


def test_moves_are_distinct_and_in_canonical_order():
    # Pairs (4, 4), (4, 2), (4, 2): the repeat of the second pair is dropped, 4 - 4 = 0 is not allowed.
    found = [(move.a, move.op, move.b, move.result, move.rest) for move in moves((4, 4, 2), 60)]
    assert found == [
        (4, "+", 4, 8, (2,)),
        (4, "*", 4, 16, (2,)),
        (4, "/", 4, 1, (2,)),
        (4, "+", 2, 6, (4,)),
        (4, "-", 2, 2, (4,)),
        (4, "*", 2, 8, (4,)),
        (4, "/", 2, 2, (4,)),
    ]


@given(st.integers(1, 99), st.integers(1, 99), st.sampled_from(OPERATIONS), st.integers(99, 10_000))
def test_operations_do_not_mind_the_order_of_operands(a, b, op, cap):
    value = apply(a, op, b, cap)
    assert value == apply(b, op, a, cap)
    assert value is None or 1 <= value <= cap


@settings(max_examples=60, deadline=None)
@given(NUMBERS, st.sampled_from([12, 30, 60, 1000]))
def test_reachable_equals_trying_every_sequence_of_moves(numbers, cap):
    def outcomes(values):
        if len(values) == 1:
            return set(values)
        return {value for move in moves(values, cap) for value in outcomes(move.state)}

    assert reachable(tuple(numbers), cap) == outcomes(tuple(numbers))


@given(NUMBERS)
def test_there_is_always_a_move(numbers):
    assert moves(numbers, max(numbers))
