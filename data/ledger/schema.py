"""The ledger's tables, and how a file with them is opened. docs/ledger.md explains every column.

`groups` has the current state of each group, `episodes` and `calls` the results of its last attempt, `events`
its whole history. `events` only allows additions; `data.ledger.audit` compares it with `groups`.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from enum import StrEnum
from pathlib import Path

from data.errors import ConfigError, StorageError

LEDGER_VERSION = 3
"""`user_version` of the file. Other versions are refused; a ledger is never converted."""
APPLICATION_ID = 0x42726169
"""`application_id` of the file, "Brai" in ASCII. Other databases are never written to."""
_BUSY_SECONDS = 30.0
"""Longest time that a statement waits for another writer, which only a second run could be."""


class LedgerState(StrEnum):
    """State of a group that was started at least once."""

    PENDING = "pending"
    """Undone by a resume; it will be started again."""
    RUNNING = "running"
    FINISHED = "finished"
    """Scored; waiting for its step, or to be filtered out."""
    FILTERED = "filtered"
    """Scored, and never to be trained."""
    CONSUMED = "consumed"


class EventKind(StrEnum):
    """Kind of event in the history of a group."""

    STARTED = "started"
    RESTARTED = "restarted"
    """Run again because its engine or actor died."""
    FINISHED = "finished"
    FILTERED = "filtered"
    CONSUMED = "consumed"
    UNDONE = "undone"
    """Back to pending, by a resume from weights not trained on it; `detail` is its state before."""


def _words(kinds: type[StrEnum]) -> str:
    return ", ".join(f"'{kind.value}'" for kind in kinds)


_GROUPS = f"""CREATE TABLE groups (
    group_id    INTEGER PRIMARY KEY,
    stage       TEXT NOT NULL,
    group_index INTEGER NOT NULL,
    problem     TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ({_words(LedgerState)})),
    attempts    INTEGER NOT NULL,
    version     INTEGER,
    engine      TEXT,
    started_at  REAL,
    finished_at REAL,
    rollout_s   REAL,
    reward_s    REAL,
    step        INTEGER,
    record      TEXT,
    UNIQUE (stage, group_index),
    CHECK ((state = 'consumed') = (step IS NOT NULL))
) STRICT"""

_EVENTS = f"""CREATE TABLE events (
    event_id    INTEGER PRIMARY KEY,
    incarnation INTEGER NOT NULL REFERENCES incarnations,
    at          REAL NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ({_words(EventKind)})),
    group_index INTEGER NOT NULL,
    version     INTEGER,
    engine      TEXT,
    step        INTEGER,
    detail      TEXT NOT NULL
) STRICT"""

_TABLES = (
    "CREATE TABLE run (run_id TEXT NOT NULL) STRICT",
    """CREATE TABLE incarnations (
    incarnation INTEGER PRIMARY KEY,
    stage       TEXT NOT NULL,
    at          REAL NOT NULL,
    step        INTEGER NOT NULL,
    next_group  INTEGER NOT NULL,
    undone      INTEGER NOT NULL,
    rolled_back INTEGER NOT NULL
) STRICT""",
    _GROUPS,
    """CREATE TABLE episodes (
    group_id         INTEGER NOT NULL REFERENCES groups,
    sample           INTEGER NOT NULL,
    reward           REAL,
    parts            TEXT NOT NULL,
    placed           TEXT NOT NULL,
    reason           TEXT NOT NULL,
    correct          INTEGER,
    outcome          TEXT NOT NULL,
    total_tokens     INTEGER NOT NULL,
    critical_tokens  INTEGER NOT NULL,
    critical_seconds REAL NOT NULL,
    width            INTEGER NOT NULL,
    depth            INTEGER NOT NULL,
    num_calls        INTEGER NOT NULL,
    num_threads      INTEGER NOT NULL,
    num_violations   INTEGER NOT NULL,
    oldest_version   INTEGER,
    newest_version   INTEGER,
    PRIMARY KEY (group_id, sample)
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE calls (
    group_id       INTEGER NOT NULL,
    sample         INTEGER NOT NULL,
    call_index     INTEGER NOT NULL,
    thread         INTEGER NOT NULL,
    role           TEXT NOT NULL,
    context_tokens INTEGER NOT NULL,
    output_tokens  INTEGER NOT NULL,
    cached_tokens  INTEGER NOT NULL,
    stop           TEXT NOT NULL,
    versions       TEXT NOT NULL,
    started_s      REAL NOT NULL,
    finished_s     REAL NOT NULL,
    PRIMARY KEY (group_id, sample, call_index),
    FOREIGN KEY (group_id, sample) REFERENCES episodes ON DELETE CASCADE
) STRICT, WITHOUT ROWID""",
    _EVENTS,
    """CREATE TABLE publications (
    publication_id INTEGER PRIMARY KEY,
    incarnation    INTEGER NOT NULL REFERENCES incarnations,
    version        INTEGER NOT NULL,
    at             REAL NOT NULL,
    seconds        REAL NOT NULL,
    bytes          INTEGER NOT NULL,
    pause_s        REAL NOT NULL
) STRICT""",
    """CREATE TABLE faults (
    fault_id    INTEGER PRIMARY KEY,
    stage       TEXT NOT NULL,
    incarnation INTEGER REFERENCES incarnations,
    at          REAL NOT NULL,
    kind        TEXT NOT NULL,
    what        TEXT NOT NULL,
    detail      TEXT NOT NULL
) STRICT""",
)
_APPEND_ONLY = ("run", "incarnations", "events", "publications", "faults")


def open_to_write(path: Path) -> sqlite3.Connection:
    """Connection of the one writer, in autocommit mode. Creates the file if it is missing or has no bytes.

    Raises:
        ConfigError: the file is not a ledger, has another version, or cannot be opened. It is left as it was.
        StorageError: the file is damaged. It is left as it was.
    """
    with refusing(path), ExitStack() as failed:
        if not path.exists() or path.stat().st_size == 0:
            _create(path)
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        failed.callback(connection.close)
        _check(connection, path)
        _ensure_whole(connection, path)
        # Survives the death of every process. Power may take the last transactions, never half of one.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        failed.pop_all()
    return connection


def claim(connection: sqlite3.Connection, path: Path, run_id: str) -> None:
    """Records the run in a new ledger. Raises ConfigError when the ledger is that of another run."""
    with refusing(path):
        found = [row[0] for row in connection.execute("SELECT run_id FROM run")]
        if not found:
            connection.execute("INSERT INTO run (run_id) VALUES (?)", (run_id,))
        elif found != [run_id]:
            raise ConfigError(
                f"{path}: is the ledger of another run ({', '.join(found)}; this one is {run_id})\n"
                "  fix: restore this run's own ledger.sqlite, or choose another --run directory"
            )


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Read-only connection to one consistent snapshot; the writer may go on meanwhile.

    Raises:
        ConfigError: the file is missing, no ledger, damaged, or one of another version.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path}: there is no such ledger\n  fix: name the ledger.sqlite of a run directory"
        )
    address = f"{path.absolute().as_uri()}?mode=ro"
    with (
        refusing(path),
        closing(
            sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
        ) as connection,
    ):
        connection.execute("BEGIN")
        _check(connection, path)
        yield connection


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turn errors of the disk or of a damaged file into ConfigError; programming errors stay as they are."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: {error}\n  fix: see that it is the ledger of a run, that its disk is local and has "
            "room left, and that no other process writes to it; then resume"
        ) from error


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Raises ConfigError for a database that is not a ledger of this version."""
    ((application,),) = connection.execute("PRAGMA application_id")
    ((version,),) = connection.execute("PRAGMA user_version")
    if application != APPLICATION_ID:
        raise ConfigError(
            f"{path}: is a database, but not the ledger of a run\n"
            "  fix: move it away, or choose another --run directory"
        )
    if version != LEDGER_VERSION:
        age = "an older" if version < LEDGER_VERSION else "a newer"
        raise ConfigError(
            f"{path}: was written by {age} Braid (schema {version}; this one has {LEDGER_VERSION})\n"
            "  fix: resume with the Braid version that began the run, or choose another --run directory"
        )


def _statements() -> list[str]:
    """SQL that creates the tables, and the triggers that keep some of them append-only."""
    return [
        *_TABLES,
        *(
            f"CREATE TRIGGER {name}_never_{change.lower()} BEFORE {change} ON {name} "
            f"BEGIN SELECT RAISE(ABORT, '{name} are only ever added to'); END"
            for name in _APPEND_ONLY
            for change in ("UPDATE", "DELETE")
        ),
    ]


def _ensure_whole(connection: sqlite3.Connection, path: Path) -> None:
    """Raises StorageError for a file with a broken structure, other tables than ours, an index that misses
    rows, or a value that its column does not allow. Reads the whole file, which takes less time than an
    engine's start.
    """
    try:
        ((found,),) = connection.execute("PRAGMA integrity_check(1)")
        tables = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
        if {" ".join(sql.split()) for (sql,) in tables} != {" ".join(sql.split()) for sql in _statements()}:
            found = "its tables are not those of a ledger"
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        found = str(error)
    if found != "ok":
        raise StorageError(
            f"{path}: is damaged ({' '.join(found.split())}); nothing was written to it\n"
            "  fix: restore this run's ledger.sqlite from a copy, or start again in another --run directory"
        )


def _create(path: Path) -> None:
    """Puts a ledger without rows at `path`, whole or not at all: a reader never sees half of it."""
    partial = path.with_name(f".{path.name}.partial")
    # A log without its database would be applied to the new one.
    for old in (partial, *(Path(f"{file}{end}") for file in (partial, path) for end in ("-wal", "-shm"))):
        old.unlink(missing_ok=True)
    with closing(sqlite3.connect(partial, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        for statement in _statements():
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {LEDGER_VERSION}")
        connection.execute("COMMIT")
    partial.replace(path)
