import json
from dataclasses import replace
from pathlib import Path

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
from data.errors import ConfigError
from rl.evaluation.outcomes import Outcome, by_problem, load_outcomes, outcome_of, save_outcomes


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
    outcome = outcome_of(forked_episode(), sample=2, correct=None)
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
    )


def test_outcomes_survive_the_file_and_are_grouped_by_id(tmp_path: Path) -> None:
    first = outcome_of(forked_episode(), sample=1, correct=True)
    second = outcome_of(forked_episode(), sample=0, correct=False)
    path = tmp_path / "deep" / "outcomes.jsonl"
    save_outcomes(path, [first, second])
    loaded = load_outcomes(path)
    assert loaded == [first, second]
    assert by_problem(loaded) == {"p": [second, first]}
    assert [item.name for item in path.parent.iterdir()] == ["outcomes.jsonl"]


def test_a_record_from_before_the_monitors_can_be_read(tmp_path: Path) -> None:
    outcome = outcome_of(forked_episode(), sample=0, correct=True)
    path = tmp_path / "outcomes.jsonl"
    save_outcomes(path, [outcome])
    record = json.loads(path.read_text())
    del record["observed"]
    path.write_text(json.dumps(record) + "\n")
    assert load_outcomes(path) == [replace(outcome, observed=None)]


def test_bad_outcome_file_names_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.jsonl: no such file"):
        load_outcomes(tmp_path / "none.jsonl")
    path = tmp_path / "outcomes.jsonl"
    save_outcomes(path, [outcome_of(forked_episode(), sample=0, correct=True)])
    path.write_text(path.read_text() + '{"problem_id": "q"}\n')
    with pytest.raises(ConfigError, match=r"outcomes\.jsonl, line 2: not an evaluation outcome"):
        load_outcomes(path)
