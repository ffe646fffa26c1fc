"""The ledger: the state of a run in SQLite. Only the controller writes it; any process may read it meanwhile.

    open_stage -> (start -> [restart] -> finish -> filtered | consumed)* ... published, fault

Every method that writes is one transaction, so a kill at any moment leaves whole ones only. `open_stage` is
called whenever a stage starts or resumes from a checkpoint. It undoes what the restored weights were not
trained on, so that each group is trained exactly once relative to them (`data.ledger.audit` checks it).

Ids and log-probabilities are not here but in the rollout record; `groups.record` names the file.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from data.episodes.topology import critical_seconds, critical_tokens, depth, total_tokens, width
from data.episodes.trajectory import Call, Episode
from data.ledger.schema import EventKind, LedgerState, claim, open_to_write, refusing

_UNDONE = """state = 'pending', version = NULL, engine = NULL, started_at = NULL, finished_at = NULL,
    rollout_s = NULL, reward_s = NULL, step = NULL, record = NULL"""


class Graded(Protocol):
    """Score of an episode (rewards.score.Score)."""

    @property
    def value(self) -> float | None:
        """The reward; None when the episode could not be graded."""

    @property
    def components(self) -> Mapping[str, float]:
        """What each term contributed."""

    @property
    def placed(self) -> Sequence[tuple[str, int, int | None, int | None, float]]:
        """Rewards of calls and steps: term, call, first token, token behind the last, value."""

    @property
    def reason(self) -> str:
        """Why it has this value, in words."""

    @property
    def correct(self) -> bool | None:
        """Whether the answer is right; None when that could not be checked."""


class GradedGroup(Protocol):
    """A group as its step trains it (rl.scored_group.ScoredGroup)."""

    @property
    def index(self) -> int:
        """Index in the sampler's order."""

    @property
    def scores(self) -> Sequence[Graded]:
        """[G] scores, with the schedule factors of the step applied."""


class Ledger:
    """Writer of a run's ledger. Build it with `open`; close it, or use it in a `with`.

    Every method raises ConfigError when the file cannot be written (a full disk, say), and has then changed
    nothing. A change that does not fit the group's state is a mistake of the caller: AssertionError.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, clock: Callable[[], float]) -> None:
        self.path = path
        self._connection = connection
        self._clock = clock
        self._incarnations: dict[str, int] = {}
        """Stage name -> incarnation, for stages opened by this process."""

    @classmethod
    def open(
        cls, path: Path, *, run_id: str | None = None, clock: Callable[[], float] = time.time
    ) -> "Ledger":
        """Creates the file where there is none. `clock`: seconds since 1970.

        Raises:
            ConfigError: the file is not a ledger, or one of another version or of another run than `run_id`.
        """
        connection = open_to_write(path)
        if run_id is not None:
            try:
                claim(connection, path, run_id)
            except BaseException:
                connection.close()
                raise
        return cls(path, connection, clock)

    def close(self) -> None:
        """Close the connection. What was written is kept either way."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open_stage(self, stage_name: str, *, step: int, next_group: int) -> int:
        """Start or resume a stage before `step`; groups below `next_group` are consumed or filtered.

        Groups that are running, and those finished, filtered or consumed beyond that point, become pending
        again, and the episodes of the undone attempt are deleted. Returns the number of the incarnation.
        """
        with self._transaction(durable=True):
            undone = self._connection.execute(
                "SELECT group_id, group_index, state FROM groups WHERE stage = ? AND state != 'pending'"
                " AND (group_index >= ? OR step >= ? OR state IN ('running', 'finished'))",
                (stage_name, next_group, step),
            ).fetchall()
            rolled_back = sum(state == LedgerState.CONSUMED for _, _, state in undone)
            ((incarnation,),) = self._connection.execute(
                "INSERT INTO incarnations (stage, at, step, next_group, undone, rolled_back)"
                " VALUES (?, ?, ?, ?, ?, ?) RETURNING incarnation",
                (stage_name, self._clock(), step, next_group, len(undone), rolled_back),
            ).fetchall()
            ids = [(group_id,) for group_id, _, _ in undone]
            self._connection.executemany(f"UPDATE groups SET {_UNDONE} WHERE group_id = ?", ids)
            self._connection.executemany("DELETE FROM episodes WHERE group_id = ?", ids)
            self._log(incarnation, EventKind.UNDONE, *((index, state) for _, index, state in undone))
        self._incarnations[stage_name] = int(incarnation)
        return int(incarnation)

    def start(
        self, stage_name: str, group_index: int, problem_id: str, *, version: int, engine: str | None = None
    ) -> None:
        """Record that a new or pending group starts under weights `version`.

        `engine` is None when it is not chosen yet.
        """
        with self._transaction():
            taken = self._connection.execute(
                "INSERT INTO groups"
                " (stage, group_index, problem, state, attempts, version, engine, started_at)"
                " VALUES (?, ?, ?, 'running', 1, ?, ?, ?)"
                " ON CONFLICT (stage, group_index) DO UPDATE SET"
                " state = 'running', attempts = attempts + 1, version = excluded.version,"
                " engine = excluded.engine, started_at = excluded.started_at"
                " WHERE state = 'pending' AND problem = excluded.problem",
                (stage_name, group_index, problem_id, version, engine, self._clock()),
            ).rowcount
            assert taken == 1, (
                f"group {group_index} of stage {stage_name!r} is not pending, or has another problem"
            )
            self._log(
                self._incarnations[stage_name],
                EventKind.STARTED,
                (group_index, ""),
                version=version,
                engine=engine,
            )

    def restart(
        self, stage_name: str, group_index: int, *, version: int, engine: str | None, why: str
    ) -> None:
        """Record that `engine` took over a running group, from the start or where the other one stopped."""
        with self._transaction():
            _move(
                self._connection,
                stage_name,
                group_index,
                LedgerState.RUNNING,
                "attempts = attempts + 1, version = ?, engine = ?, started_at = ?",
                (version, engine, self._clock()),
            )
            self._log(
                self._incarnations[stage_name],
                EventKind.RESTARTED,
                (group_index, why),
                version=version,
                engine=engine,
            )

    def finish(
        self,
        stage_name: str,
        group_index: int,
        episodes: Sequence[Episode],
        scores: Sequence[Graded],
        *,
        engine: str | None,
        rollout_s: float,
        reward_s: float,
    ) -> None:
        """Record episodes, calls and full-weight rewards of a running group that has ended and is scored.

        `rollout_s` is the time from its start to its last episode, `reward_s` from there to its scores.
        """
        with self._transaction():
            group_id = _move(
                self._connection,
                stage_name,
                group_index,
                LedgerState.RUNNING,
                "state = 'finished', engine = ?, finished_at = ?, rollout_s = ?, reward_s = ?",
                (engine, self._clock(), rollout_s, reward_s),
            )
            for sample, (episode, score) in enumerate(zip(episodes, scores, strict=True)):
                self._insert("episodes", [_episode_row(group_id, sample, episode, score)])
                calls = [*episode.calls, *(probe.call for probe in episode.probes)]
                self._insert("calls", [_call_row(group_id, sample, call) for call in calls])
            self._log(self._incarnations[stage_name], EventKind.FINISHED, (group_index, ""), engine=engine)

    def filtered(self, stage_name: str, group_index: int) -> None:
        """Record that a finished group will never be trained."""
        with self._transaction():
            _move(self._connection, stage_name, group_index, LedgerState.FINISHED, "state = 'filtered'", ())
            self._log(self._incarnations[stage_name], EventKind.FILTERED, (group_index, ""))

    def consumed(self, stage_name: str, step: int, groups: Sequence[GradedGroup], *, record: str) -> None:
        """Record all groups of a step, in the order in which it trained them, with their rewards as trained.

        `record`: the file of the rollout record that holds their episodes. Call it once that file is whole,
        and before a checkpoint that knows the step: a checkpoint must never be ahead of the ledger. For that
        reason this transaction, and with it all earlier ones, survives power loss too.
        """
        with self._transaction(durable=True):
            for group in groups:
                group_id = _move(
                    self._connection,
                    stage_name,
                    group.index,
                    LedgerState.FINISHED,
                    "state = 'consumed', step = ?, record = ?",
                    (step, record),
                )
                changed = self._connection.executemany(
                    "UPDATE episodes SET reward = ?, parts = ?, placed = ? WHERE group_id = ? AND sample = ?",
                    [
                        (score.value, *_parts(score), group_id, sample)
                        for sample, score in enumerate(group.scores)
                    ],
                ).rowcount
                assert changed == len(group.scores), (
                    f"group {group.index} has {changed} episodes in the ledger"
                )
            self._log(
                self._incarnations[stage_name],
                EventKind.CONSUMED,
                *((group.index, "") for group in groups),
                step=step,
            )

    def published(
        self, stage_name: str, version: int, *, seconds: float, num_bytes: int, pause_s: float
    ) -> None:
        """Record that all engines run weights `version`.

        `seconds` is the whole duration of the weight sync, `num_bytes` the size of the weights sent to each
        engine, `pause_s` the longest time that an engine sampled nothing.
        """
        with self._transaction():
            self._insert(
                "publications",
                [(None, self._incarnations[stage_name], version, self._clock(), seconds, num_bytes, pause_s)],
            )

    def fault(self, stage_name: str, kind: str, what: str, detail: str = "") -> None:
        """Record what died, hung, could not be read, or kept the stage from learning.

        Allowed before `open_stage`. `kind` is one word (engine, reward, learner, checkpoint, health, ...),
        `what` which one and what was done.
        """
        with self._transaction():
            self._connection.execute(
                "INSERT INTO faults (stage, incarnation, at, kind, what, detail) VALUES (?, ?, ?, ?, ?, ?)",
                (stage_name, self._incarnations.get(stage_name), self._clock(), kind, what, detail),
            )

    @contextmanager
    def _transaction(self, *, durable: bool = False) -> Iterator[None]:
        """One transaction, all or nothing. `durable`: it and all earlier ones are on disk when it returns."""
        with refusing(self.path):
            if durable:
                self._connection.execute("PRAGMA synchronous = FULL")
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if durable:
                    self._connection.execute("PRAGMA synchronous = NORMAL")

    def _log(
        self,
        incarnation: int,
        kind: EventKind,
        *groups: tuple[int, str],
        version: int | None = None,
        engine: str | None = None,
        step: int | None = None,
    ) -> None:
        """Append one event for each (group index, detail)."""
        moment = (None, incarnation, self._clock(), kind)
        self._insert("events", [(*moment, index, version, engine, step, detail) for index, detail in groups])

    def _insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert whole rows, in the order of the schema's columns."""
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            self._connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)


def _move(
    connection: sqlite3.Connection,
    stage_name: str,
    group_index: int,
    before: LedgerState,
    change: str,
    values: tuple[Any, ...],
) -> int:
    """Change the row of a group that is in state `before`. Returns its group_id."""
    rows = connection.execute(
        f"UPDATE groups SET {change} WHERE stage = ? AND group_index = ? AND state = ? RETURNING group_id",
        (*values, stage_name, group_index, before),
    ).fetchall()
    assert len(rows) == 1, f"group {group_index} of stage {stage_name!r} is not {before}"
    return int(rows[0][0])


def _episode_row(group_id: int, sample: int, episode: Episode, score: Graded) -> tuple[Any, ...]:
    versions = [span.version for call in episode.calls for span in call.versions]
    return (
        *(group_id, sample, score.value, *_parts(score), score.reason, score.correct),
        *(episode.outcome, total_tokens(episode), critical_tokens(episode), critical_seconds(episode)),
        *(width(episode), depth(episode), len(episode.calls), len(episode.threads)),
        *(len(episode.violations), min(versions, default=None), max(versions, default=None)),
    )


def _parts(score: Graded) -> tuple[str, str]:
    return _json(dict(score.components)), _json(score.placed)


def _call_row(group_id: int, sample: int, call: Call) -> tuple[Any, ...]:
    return (
        *(group_id, sample, call.index, call.thread, call.role),
        *(sum(map(len, call.context)), len(call.output), call.cached_tokens, call.stop),
        _json([(span.version, span.start, span.stop) for span in call.versions]),
        *(call.started_s, call.finished_s),
    )


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
