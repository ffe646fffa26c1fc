"""PRIME's returns of token rewards, by hand."""

from dataclasses import replace

import pytest
from episodes import call, episode

from data.episodes.trajectory import Edge, EdgeKind, Episode
from rl.algorithms.advantages.implicit_return import implicit_returns, token_baselines

NEXT, FORK, JOIN = EdgeKind.NEXT, EdgeKind.FORK, EdgeKind.JOIN


def chain(tokens: int) -> Episode:
    return episode([call(0, 0, tokens)])


def forked() -> Episode:
    """Call 0 forks 1 and 2; 3 goes on when both have ended. One token each."""
    edges = [[], [(FORK, 0)], [(FORK, 0)], [(NEXT, 0), (JOIN, 1), (JOIN, 2)]]
    threads = (0, 1, 2, 0)
    calls = [
        replace(call(index, thread, 1), after=tuple(Edge(kind=kind, call=other) for kind, other in after))
        for index, (thread, after) in enumerate(zip(threads, edges, strict=True))
    ]
    return episode(calls)


def test_two_lines_of_thought_by_hand() -> None:
    """Means 0.3 and 0.1: the first is compared with 0.1, the second with 0.3."""
    found = implicit_returns(
        [chain(2), chain(3)],
        [[[0.2, 0.4]], [[0.0, 0.1, 0.2]]],
        counted=[[True], [True]],
        graded=[True, True],
    )
    assert found[0] == [pytest.approx([0.4, 0.3])]
    assert found[1] == [pytest.approx([-0.6, -0.3, -0.1])]


def test_an_episode_that_forks_by_hand() -> None:
    """Its baseline is the other's 0.1, so 0.2, 0.4, -0.2, 0.1 are left. The resumed parent has 0.1; the
    children 0.4 + 0.1 and -0.2 + 0.1; what comes after the fork is the mean of these three, 1/6.
    """
    found = implicit_returns(
        [forked(), chain(1)],
        [[[0.3], [0.5], [-0.1], [0.2]], [[0.1]]],
        counted=[[True] * 4, [True]],
        graded=[True, True],
    )
    flat = [value for of_call in found[0] for value in of_call]
    assert flat == pytest.approx([0.2 + 0.5 / 3, 0.5, -0.1, 0.1])
    # The other is compared with the mean of all four tokens, 0.225.
    assert found[1] == [pytest.approx([-0.125])]


def test_what_is_ungraded_or_not_trained_counts_nowhere_by_hand() -> None:
    """The second episode is ungraded. The first has only its children's tokens, 0.5 and -0.1: their mean is
    0.2; the third has 0.1. Returns: 0.4, and -0.2; no token of the parent has one but what follows it.
    """
    found = implicit_returns(
        [forked(), chain(1), chain(1)],
        [[[9.0], [0.5], [-0.1], [9.0]], [[7.0]], [[0.1]]],
        counted=[[False, True, True, False], [True], [True]],
        graded=[True, False, True],
    )
    flat = [value for of_call in found[0] for value in of_call]
    assert flat == pytest.approx([(0.4 - 0.2 + 0.0) / 3, 0.4, -0.2, 0.0])
    assert found[1] == [[0.0]]
    assert found[2] == [pytest.approx([-0.1])]


def test_alone_nothing_is_said() -> None:
    assert implicit_returns([chain(2)], [[[1.0, 2.0]]], counted=[[True]], graded=[True]) == [[[0.0, 0.0]]]
    assert token_baselines([0.5, None]) == [None, None]
    assert token_baselines([0.1, 0.2, None, 0.6]) == [
        pytest.approx(0.4), pytest.approx(0.35), None, pytest.approx(0.15),
    ]  # fmt: skip


def test_more_tokens_as_good_as_the_others_earn_nothing() -> None:
    found = implicit_returns(
        [chain(4), chain(1)], [[[0.1] * 4], [[0.1]]], counted=[[True], [True]], graded=[True, True]
    )
    assert found == [[pytest.approx([0.0] * 4)], [pytest.approx([0.0])]]
