"""Episodes as bare DAGs of calls, for estimates of advantages: made by hand, and any of them."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from episodes import call, episode
from hypothesis import strategies as st

from data.episodes.trajectory import Call, Edge, EdgeKind, Episode

NEXT, FORK, JOIN, RETRY, SLOT = EdgeKind


def dag(*calls: tuple[int, Sequence[tuple[EdgeKind, int]]]) -> Episode:
    """Calls of so many trained tokens (and two more that are not), and the edges they waited for.

    Threads play no part in the estimate: all calls are the root's.
    """
    made: list[Call] = []
    for index, (trained, after) in enumerate(calls):
        edges = tuple(Edge(kind=kind, call=other) for kind, other in after)
        made.append(replace(call(index, 0, trained + 2), num_trained=trained, after=edges))
    return episode(made)


def forked(*trained: int) -> Episode:
    """Call 0 forks 1 and 2, and 3 goes on when both have ended."""
    edges = [(), ((FORK, 0),), ((FORK, 0),), ((NEXT, 0), (JOIN, 1), (JOIN, 2))]
    return dag(*zip(trained, edges, strict=True))


def near(expected: list[list[float]]) -> list[object]:
    return [pytest.approx(of_call, abs=1e-12) for of_call in expected]


@st.composite
def dags(draw: st.DrawFn) -> tuple[Episode, list[list[float]]]:
    """An episode of up to seven calls with edges of any kind, and values for it."""
    calls: list[tuple[int, list[tuple[EdgeKind, int]]]] = []
    for index in range(draw(st.integers(1, 7))):
        edge = st.tuples(st.sampled_from(EdgeKind), st.integers(0, max(0, index - 1)))
        after = draw(st.lists(edge, max_size=min(3, index)))
        calls.append((draw(st.integers(0, 3)), after))
    value = st.floats(-2, 2)
    return dag(*calls), [draw(st.lists(value, min_size=size, max_size=size)) for size, _ in calls]
