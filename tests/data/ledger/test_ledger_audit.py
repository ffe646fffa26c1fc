"""The audit finds what is wrong: books of a sound run, and the same with one thing made wrong by hand."""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import ledger_lab
import pytest
from ledger_lab import STAGE, consume, finish, scored, start, train

from data.errors import ConfigError
from data.ledger.audit import Audit, audit
from data.ledger.ledger import Ledger

SOUND = Audit(
    lost=(),
    duplicated=(),
    out_of_order=(),
    wrong_steps=(),
    disputed=(),
    consumed=6,
    filtered=1,
    restarts=0,
    rollbacks=0,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Three steps of two groups: 0 and 1, 2 and 4 (3 is filtered out), 5 and 6."""
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        ledger.open_stage(STAGE, step=0, next_group=0)
        train(ledger, range(1))
        for index in range(2, 7):
            start(ledger, index)
            finish(ledger, scored(index))
        ledger.filtered(STAGE, 3)
        consume(ledger, 1, [scored(2), scored(4)])
        consume(ledger, 2, [scored(5), scored(6)])
        start(ledger, 7)
    return path


def spoil(path: Path, *statements: str) -> None:
    """Change the books behind the ledger's back."""
    connection = sqlite3.connect(path)
    try:
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            assert connection.execute(statement).rowcount > 0, statement
        connection.commit()
    finally:
        connection.close()


def findings(path: Path) -> Audit:
    return audit(path, STAGE, groups_per_step=2, problem_at=ledger_lab.problem)


def test_sound_books(path: Path) -> None:
    assert findings(path) == SOUND
    assert SOUND.clean


PENDING = "UPDATE groups SET state = 'pending', step = NULL WHERE group_index = "
ONCE_MORE = "INSERT INTO events (incarnation, at, kind, group_index, step, detail) VALUES (1, 0, {}, '')"


@pytest.mark.parametrize(
    ("spoilt", "expected"),
    [
        ([PENDING + "2"], {"lost": (2,), "wrong_steps": (1,), "disputed": (2,), "consumed": 5}),
        (["DELETE FROM events WHERE kind = 'filtered'"], {"lost": (3,), "disputed": (3,)}),
        (
            [PENDING + "2", "DELETE FROM events WHERE group_index = 2"],
            {"lost": (2,), "wrong_steps": (1,), "consumed": 5},
        ),
        (
            [ONCE_MORE.format("'consumed', 4, 1")],
            {"duplicated": (4,), "out_of_order": (4,), "wrong_steps": (1,)},
        ),
        (
            ["UPDATE events SET kind = 'consumed', step = 1 WHERE kind = 'filtered'"],
            {"disputed": (3,), "wrong_steps": (1,), "out_of_order": (2,)},  # 3 before 2
        ),
        ([ONCE_MORE.format("'filtered', 4, NULL")], {"duplicated": (4,)}),
        (
            [
                "UPDATE groups SET step = 9 WHERE group_index = 4",
                "UPDATE groups SET step = 1 WHERE group_index = 5",
                "UPDATE groups SET step = 2 WHERE group_index = 4",
            ],
            {"out_of_order": (5,), "disputed": (4, 5)},
        ),
        (
            ["UPDATE events SET group_index = 11 - group_index WHERE kind = 'consumed' AND step = 2"],
            {"out_of_order": (5,)},
        ),
        (
            [
                "UPDATE groups SET step = 3 WHERE step = 2",
                "UPDATE events SET step = 3 WHERE step = 2",
            ],
            {"wrong_steps": (2,)},
        ),
        (["UPDATE groups SET problem = 'p0' WHERE group_index = 6"], {"out_of_order": (6,)}),
    ],
    ids=[
        "lost row",
        "lost event",
        "lost",
        "consumed twice",
        "consumed though filtered",
        "filtered though consumed",
        "order of rows",
        "order of events",
        "step missing",
        "another problem",
    ],
)
def test_books_that_are_wrong(path: Path, spoilt: Sequence[str], expected: dict[str, object]) -> None:
    spoil(path, *spoilt)
    found = findings(path)
    assert found == replace(SOUND, **expected)
    assert not found.clean


def test_a_group_left_out_of_a_checkpoint_is_lost(path: Path) -> None:
    """The weights claim step 3 and all groups below 8, but the books have no step of 7."""
    with Ledger.open(path) as ledger:
        ledger.open_stage(STAGE, step=4, next_group=8)
    assert findings(path) == replace(SOUND, lost=(7,), wrong_steps=(3,))


def test_what_a_resume_takes_back_counts_once_when_it_is_done_again(path: Path) -> None:
    with Ledger.open(path) as ledger:
        ledger.open_stage(STAGE, step=1, next_group=2)
        assert findings(path) == replace(SOUND, consumed=2, filtered=0, rollbacks=1)
        for index in (2, 3):
            start(ledger, index)
        ledger.restart(STAGE, 3, version=0, engine="engine 1", why="engine 0 died")
        for index in (2, 3):
            finish(ledger, scored(index))
        consume(ledger, 1, [scored(2), scored(3)])
    assert findings(path) == replace(SOUND, consumed=4, filtered=0, restarts=1, rollbacks=1)


def test_a_resume_that_took_nothing_back_is_no_rollback(path: Path) -> None:
    with Ledger.open(path) as ledger:
        assert ledger.open_stage(STAGE, step=3, next_group=7) == 2
    assert findings(path) == SOUND


def test_stages_have_books_of_their_own(path: Path) -> None:
    with Ledger.open(path) as ledger:
        ledger.open_stage("second", step=0, next_group=0)
        ledger.start("second", 0, "p", version=0)
    assert findings(path) == SOUND
    assert audit(path, "second", groups_per_step=2) == replace(SOUND, consumed=0, filtered=0)


def test_an_unknown_stage_is_named_with_those_there_are(path: Path) -> None:
    with pytest.raises(ConfigError, match="has no stage 'r1'\n  fix: name one of: rl"):
        audit(path, "r1", groups_per_step=2)
