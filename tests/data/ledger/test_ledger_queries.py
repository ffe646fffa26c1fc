"""The questions of docs/ledger.md: answers by hand, and the page itself, whose SQL and examples are run."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import ledger_lab
import pytest
from ledger_lab import STAGE

from data.ledger import queries as ledger_queries
from data.ledger.queries import (
    longest_episodes,
    mishaps,
    parts_by_step,
    running_groups,
    staleness_histogram,
    worst_groups,
)

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "ledger.md").read_text()
EXAMPLES = re.findall(r"```sql\n(.*?)```\n\n```text\n(.*?)```", PAGE, flags=re.DOTALL)
QUESTIONS = [
    value.strip() for name, value in vars(ledger_queries).items() if name.isupper() and "SELECT" in value
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("example") / "ledger.sqlite"
    ledger_lab.example_books(path)
    return path


@pytest.fixture
def books(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        yield connection


def test_worst_groups(path: Path) -> None:
    worst = worst_groups(path, STAGE, most=2)
    assert [(group.group_index, group.mean_reward) for group in worst] == [(4, 0.0), (3, 0.125)]
    best = worst_groups(path, STAGE)[-1]
    assert (best.group_index, best.mean_reward, best.graded) == (2, 1.0, 1)  # 1 and no opinion


def test_longest_episodes(path: Path) -> None:
    for by in ("tokens", "seconds"):
        first, second = longest_episodes(path, STAGE, by=by, most=2)
        # 7 + 30 + 2 tokens of a tenth of a second; the others 4 + 9 + 2.
        assert (first.group_index, first.sample, first.critical_tokens) == (3, 1, 39)
        assert first.critical_seconds == pytest.approx(3.9)
        assert second.critical_tokens == 15


def test_staleness_histogram(path: Path) -> None:
    # Step 0: 4 episodes of 21 tokens by version 0. Step 1: 21 tokens and the last 2 of 56 by version 1, the
    # other 54 by version 0; twice 21 by version 0. The filtered group does not count.
    assert staleness_histogram(path, STAGE) == {0: 4 * 21 + 21 + 2, 1: 54 + 2 * 21}


def test_parts_by_step(path: Path) -> None:
    # Step 0 trains rewards 1, 0, 1 and one without an opinion: a mean of 2/3, nine tenths of it "correct".
    assert parts_by_step(path, STAGE)[:2] == [
        (0, "correct", pytest.approx(0.6)),
        (0, "format", pytest.approx(0.2 / 3)),
    ]
    # Step 1, as trained: 0, 0.25, 0, 0.
    assert parts_by_step(path, STAGE)[2].mean == pytest.approx(0.9 * 0.0625)


def test_mishaps_come_in_the_order_of_time(path: Path) -> None:
    assert [mishap.kind for mishap in mishaps(path, STAGE)] == ["engine", "restart", "checkpoint", "resume"]


def test_running_groups(path: Path) -> None:
    (running,) = running_groups(path, STAGE)
    assert (running.group_index, running.engine, running.attempts) == (5, "engine 1", 1)
    assert running.since.startswith("2027-01-15 08:01:")


def test_a_stage_that_never_began_has_no_rows(path: Path) -> None:
    assert worst_groups(path, "other") == mishaps(path, "other") == []


def test_the_page_has_an_example_of_every_question_in_the_same_words() -> None:
    assert len(EXAMPLES) == PAGE.count("```sql") > len(QUESTIONS) == 6
    assert [question for question in QUESTIONS if question not in [sql.strip() for sql, _ in EXAMPLES]] == []


@pytest.mark.parametrize(("sql", "answer"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_pages_sql_gives_the_pages_answer(sql: str, answer: str, books: sqlite3.Connection) -> None:
    cursor = books.execute(sql, {"stage": STAGE, "most": 3, "by": "tokens"})
    lines = ["|".join(column[0] for column in cursor.description)]
    lines += ["|".join(map(_as_the_shell_shows, row)) for row in cursor]
    assert "\n".join(lines) == answer.strip()


def _as_the_shell_shows(value: Any) -> str:
    if isinstance(value, float):
        return repr(float(f"{value:.15g}"))
    return "" if value is None else str(value)


def test_the_page_explains_every_column(books: sqlite3.Connection) -> None:
    tables = [name for (name,) in books.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    assert len(tables) == 8
    for table in tables:
        section = PAGE.split(f"**`{table}`**", 1)[1].split("\n**`", 1)[0].split("\n## ", 1)[0]
        columns = [row[1] for row in books.execute(f"PRAGMA table_info({table})")]
        missing = [name for name in columns if f"`{name}`" not in section and not name.endswith("_id")]
        assert (table, missing) == (table, [])
