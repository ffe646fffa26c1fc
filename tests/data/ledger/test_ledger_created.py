"""A new ledger is there whole or not at all, and owes nothing to an older one."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ledger_lab import STAGE, ask, start

from data.ledger.ledger import Ledger
from data.ledger.schema import open_to_write, reading


@pytest.mark.medium
def test_a_ledger_appears_whole_to_whoever_waits_for_it(tmp_path: Path) -> None:
    for attempt in range(100):
        path = tmp_path / f"{attempt}.sqlite"
        with ThreadPoolExecutor(1) as writer:
            opened = writer.submit(lambda path=path: open_to_write(path).close())
            while not path.exists():
                pass
            with reading(path) as books:
                assert books.execute("SELECT COUNT(*) FROM events").fetchall() == [(0,)]
            opened.result()
        assert not path.with_name(f".{path.name}.partial").exists()


def test_the_log_of_a_ledger_that_was_moved_away_is_not_applied_to_a_new_one(tmp_path: Path) -> None:
    path, old = tmp_path / "ledger.sqlite", tmp_path / "old.sqlite"
    with Ledger.open(path) as ledger:
        ledger.open_stage(STAGE, step=0, next_group=0)
        start(ledger, 0)
        log = Path(f"{path}-wal").read_bytes()
        assert log
    path.rename(old)
    Path(f"{path}-wal").write_bytes(log)
    open_to_write(path).close()
    assert ask(path, "SELECT COUNT(*) FROM groups") == [(0,)]
    path.write_bytes(b"")
    open_to_write(path).close()
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]
