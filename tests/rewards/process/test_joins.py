"""Progress of joins, by hand."""

from dataclasses import replace

import pytest
from episodes import call, episode

from data.episodes.trajectory import Call, Edge, EdgeKind, Episode
from data.steps.step import Step, StepKind
from rewards.process.joins import Join, join_progress
from rewards.score import CallReward
from rewards.terms.process import thread_rewards


def joining(index: int, thread: int, before: int, *read: int) -> Call:
    """A call that goes on behind `before` and has read the results of the calls `read`."""
    made = call(index, thread, 4)
    edges = (Edge(kind=EdgeKind.NEXT, call=before), *(Edge(kind=EdgeKind.JOIN, call=each) for each in read))
    return replace(made, after=edges)


def forked() -> Episode:
    """A parent (0) forks two children (1, 2), reads both (3), forks a third (4) and reads it (5)."""
    calls = [
        call(0, 0, 4), call(1, 1, 2, (0,)), call(2, 2, 2, (0,)), joining(3, 0, 0, 1, 2),
        call(4, 3, 2, (3,)), joining(5, 0, 3, 4),
    ]  # fmt: skip
    return episode(calls, opened_by={3: 3})


@pytest.mark.parametrize(
    ("scores", "progress"),
    [
        # From 0.4 before the fork to 0.9 behind the results; then from 0.7, its last, to 0.2.
        ({0: [0.8, 0.4], 1: [1.0], 2: [0.0], 3: [0.9, 0.7], 5: [0.2]}, {3: 0.5, 5: -0.5}),
        # Nothing was written before the fork: the problem itself counts 1.
        ({3: [0.9], 5: [0.9]}, {3: -0.1, 5: 0.0}),
        # Nothing is written behind the first results: no progress, and the second goes on from 0.4.
        ({0: [0.4], 5: [0.6]}, {5: 0.2}),
    ],
)
def test_progress_by_hand(scores: dict[int, list[float]], progress: dict[int, float]) -> None:
    found = join_progress(forked(), scores, 1.0)
    assert {join.call: join.progress for join in found} == pytest.approx(progress)
    threads = {3: (1, 2), 5: (3,)}
    assert [join.threads for join in found] == [threads[join.call] for join in found]


def test_an_episode_that_never_joins_has_none() -> None:
    assert join_progress(episode((call(0, 0, 4),)), {0: [0.5]}, 1.0) == []


def test_every_call_of_the_threads_that_were_read_is_rewarded() -> None:
    def step(index: int, value: float) -> tuple[Step, float]:
        return Step(call=index, start=0, stop=1, text="", kind=StepKind.LINE), value

    scored = [step(0, 0.5), step(1, 0.0), step(3, 0.75), step(5, 0.25)]
    assert thread_rewards(forked(), scored, 1.0) == (
        CallReward(call=1, value=0.25), CallReward(call=2, value=0.25), CallReward(call=4, value=-0.5),
    )  # fmt: skip
    assert join_progress(forked(), {0: [0.5], 3: [0.75]}, 1.0) == [
        Join(call=3, threads=(1, 2), progress=0.25)
    ]
