from dataclasses import replace

import pytest

from data.episodes.monitors import Observed
from data.episodes.trajectory import (
    Call,
    Edge,
    EdgeKind,
    Episode,
    Forced,
    Ref,
    Span,
    StopReason,
    Thread,
    ThreadOutcome,
    Violation,
    ViolationKind,
)
from rewards.score import Score
from rl.evaluation.outcomes import Outcome, by_problem, outcome_of

RIGHT = Score(value=1.0, correct=True, reason="right")


def call(index: int, thread: int, size: int, seconds: float, after: tuple[Edge, ...], *context: Span) -> Call:
    return Call(
        index=index,
        thread=thread,
        role="any",
        context=context,
        output=tuple(range(size)),
        logprobs=(),
        versions=(),
        stop=StopReason.STOP,
        after=after,
        num_trained=size,
        started_s=10.0,
        finished_s=10.0 + seconds,
    )


def thread(index: int, outcome: ThreadOutcome = ThreadOutcome.RETURNED) -> Thread:
    child = index > 0
    return Thread(
        index=index,
        parent=0 if child else None,
        key=max(0, index - 1),
        opened_by=0 if child else None,
        depth=int(child),
        outcome=outcome,
    )


def forked_episode() -> Episode:
    """A parent of 5 tokens opens children of 7, 2 and 3 (the last two alike), then samples 4 more."""
    fork = (Edge(kind=EdgeKind.FORK, call=0),)
    joins = (Edge(kind=EdgeKind.NEXT, call=0), *(Edge(kind=EdgeKind.JOIN, call=index) for index in (1, 2, 3)))
    return Episode(
        id="0/0",
        problem_id="p",
        protocol="spawn_join",
        calls=(
            call(0, 0, 5, 1.0, (), Forced(ids=(9,))),
            call(1, 1, 7, 0.5, fork, Ref(call=0, start=0, stop=2)),
            call(2, 2, 2, 2.0, fork, Ref(call=0, start=2, stop=4)),
            call(3, 3, 3, 0.1, fork, Ref(call=0, start=2, stop=4)),
            call(4, 0, 4, 1.0, joins, Forced(ids=(9,))),
        ),
        threads=(thread(0), thread(1), thread(2, ThreadOutcome.TRUNCATED), thread(3)),
        answer=(Ref(call=4, start=0, stop=2),),
        violations=(
            Violation(kind=ViolationKind.UNCLOSED_TAG, call=2),
            Violation(kind=ViolationKind.UNCLOSED_TAG, call=3),
        ),
    )


def test_outcome_of_a_forked_episode() -> None:
    outcome = outcome_of(forked_episode(), sample=2, score=Score(value=0.5, reason="no verifier"), attempts=2)
    assert outcome == Outcome(
        problem_id="p",
        sample=2,
        correct=None,
        total_tokens=21,  # 5 + 7 + 2 + 3 + 4
        critical_tokens=16,  # 5 + 7 + 4
        critical_seconds=pytest.approx(4.0),  # 1 + 2 + 1: another path than that of the tokens
        threads=3,
        unique_threads=2,
        forked=True,
        depth=1,
        violations={"unclosed_tag": 2},
        outcome=ThreadOutcome.RETURNED,
        answered=True,
        observed=Observed(
            ran=3,
            returned=2,
            duplicate=0,  # 0..6 and 0..1 and 0..2: pieces of three of the first, the whole of the others
            spurious=2,  # the root's last call reads nothing of its children
            sees_sibling=0,
            leaks=0,
            serial=False,  # 16 on the path, 5 beside it
            total_tokens=21,
            cancelled_tokens=0,
            outcome="returned",
            children={"returned": 2, "truncated": 1},
        ),
        reward=0.5,
        reason="no verifier",
        attempts=2,
    )


def test_what_a_resume_redoes() -> None:
    done = outcome_of(forked_episode(), sample=0, score=RIGHT)
    assert not done.to_redo
    ungraded = outcome_of(forked_episode(), sample=0, score=Score(value=None, reason="the worker died"))
    assert (ungraded.correct, ungraded.reason, ungraded.to_redo) == (None, "the worker died", True)
    assert replace(done, outcome=ThreadOutcome.FAILED).to_redo
    assert done.observed is not None
    child_failed = replace(done.observed, children={"returned": 2, "failed": 1})
    assert replace(done, observed=child_failed).to_redo
    # Three runs are enough.
    assert not replace(ungraded, attempts=3).to_redo


def test_by_problem_does_not_depend_on_the_order_of_arrival() -> None:
    first = outcome_of(forked_episode(), sample=1, score=RIGHT)
    second = outcome_of(forked_episode(), sample=0, score=Score(value=0.0, correct=False))
    assert by_problem([first, second]) == {"p": [second, first]}
