"""Audit of a stage's ledger: was each group trained exactly once, in order, relative to the weights?

The audit compares two records that the ledger keeps independently: the rows of `groups` as they are now,
and `events` replayed from the first one. In the replay, a resume before step t with first open group k undoes
what was consumed at step t or later and what was filtered out from group k on; nothing else does.

Example (2 groups a step): consumed 0 and 2 at step 0, filtered 1, killed, resumed before step 0 with next
group 0, filtered 1 and consumed 0 and 2 again: nothing is lost or duplicated, 1 rollback. Without the resume
in between, all three are duplicated.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from data.errors import ConfigError
from data.ledger.schema import EventKind, LedgerState, reading

_HISTORY = """
SELECT kind, group_index, step FROM (
    SELECT incarnation, 0 AS event_id, 'resumed' AS kind, next_group AS group_index, step
    FROM incarnations WHERE stage = :stage
    UNION ALL
    SELECT incarnation, event_id, kind, group_index, events.step
    FROM events JOIN incarnations USING (incarnation) WHERE stage = :stage
) ORDER BY incarnation, event_id
"""
"""Every resume, followed by what happened to groups until the next one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """Findings of an audit. Groups are named by their index in the sampler's order."""

    lost: tuple[int, ...]
    """Groups below the first open one that were neither consumed nor filtered."""
    duplicated: tuple[int, ...]
    """Groups consumed or filtered more than once since the resume that last undid them."""
    out_of_order: tuple[int, ...]
    """Groups consumed after a later one, or with a problem other than the sampler's."""
    wrong_steps: tuple[int, ...]
    """Steps that did not consume exactly `groups_per_step` groups, missing steps included."""
    disputed: tuple[int, ...]
    """Groups on which rows and events disagree."""
    consumed: int
    """Number of groups that the weights were trained on."""
    filtered: int
    restarts: int
    """Attempts started because an engine or actor died."""
    rollbacks: int
    """Resumes that undid consumed groups."""

    @property
    def clean(self) -> bool:
        """Whether each group was trained exactly once, in order."""
        return not (self.lost or self.duplicated or self.out_of_order or self.wrong_steps or self.disputed)


@dataclass(kw_only=True, slots=True)
class _Reading:
    """One of the two records: what became of the groups, relative to the weights."""

    consumed: list[tuple[int, int]] = field(default_factory=list)
    """(step, group) in the order of consumption."""
    filtered: list[int] = field(default_factory=list)

    def take_back(self, step: int, next_group: int) -> None:
        self.consumed = [(at, group) for at, group in self.consumed if at < step]
        self.filtered = [group for group in self.filtered if group < next_group]

    def fates(self) -> dict[int, int | None]:
        """Group index -> the step that consumed it, or None if it was filtered."""
        return dict.fromkeys(self.filtered) | {group: step for step, group in self.consumed}


def audit(
    path: Path, stage_name: str, *, groups_per_step: int, problem_at: Callable[[int], str] | None = None
) -> Audit:
    """Audit a stage, while it runs or afterwards.

    Args:
        path: the ledger.
        stage_name: its name in the recipe.
        groups_per_step: B.
        problem_at: group index -> id of the sampler's problem; None: problems are not compared.

    Raises:
        ConfigError: no ledger, or the stage is not in it.
    """
    with reading(path) as connection:
        resumes = connection.execute(
            "SELECT step, next_group, rolled_back FROM incarnations WHERE stage = ? ORDER BY incarnation",
            (stage_name,),
        ).fetchall()
        if not resumes:
            known = ", ".join(
                name for (name,) in connection.execute("SELECT DISTINCT stage FROM incarnations")
            )
            raise ConfigError(f"{path}: has no stage {stage_name!r}\n  fix: name one of: {known or 'none'}")
        rows = _from_rows(connection, stage_name)
        events, restarts = _from_events(connection, stage_name)
        problems = dict(
            connection.execute(
                "SELECT group_index, problem FROM groups WHERE stage = ?", (stage_name,)
            ).fetchall()
        )
    step, next_group, _ = resumes[-1]
    readings = (rows, events)
    first_open = max([next_group, *(group + 1 for reading in readings for _, group in reading.consumed)])
    ours, theirs = rows.fates(), events.fates()
    strangers = [group for group in ours if problem_at is not None and problems[group] != problem_at(group)]
    return Audit(
        lost=_either(_lost(reading, first_open) for reading in readings),
        duplicated=_either(_duplicated(reading) for reading in readings),
        out_of_order=_either([*(_out_of_order(reading) for reading in readings), strangers]),
        wrong_steps=_either(_wrong_steps(reading, step, groups_per_step) for reading in readings),
        disputed=tuple(sorted({group for group, _ in ours.items() ^ theirs.items()})),
        consumed=len(rows.consumed),
        filtered=len(rows.filtered),
        restarts=restarts,
        rollbacks=sum(rolled_back > 0 for _, _, rolled_back in resumes),
    )


def _from_rows(connection: sqlite3.Connection, stage_name: str) -> _Reading:
    found = _Reading()
    for group, state, step in connection.execute(
        "SELECT group_index, state, step FROM groups WHERE stage = ? ORDER BY group_index", (stage_name,)
    ):
        if state == LedgerState.CONSUMED:
            found.consumed.append((step, group))
        elif state == LedgerState.FILTERED:
            found.filtered.append(group)
    return found


def _from_events(connection: sqlite3.Connection, stage_name: str) -> tuple[_Reading, int]:
    """(replayed events, attempts started because an engine or actor died)."""
    found, restarts = _Reading(), 0
    for kind, group, step in connection.execute(_HISTORY, {"stage": stage_name}):
        if kind == "resumed":
            found.take_back(step, group)
        elif kind == EventKind.CONSUMED:
            found.consumed.append((step, group))
        elif kind == EventKind.FILTERED:
            found.filtered.append(group)
        restarts += kind == EventKind.RESTARTED
    return found, restarts


def _either(findings: Iterable[Iterable[int]]) -> tuple[int, ...]:
    return tuple(sorted({number for finding in findings for number in finding}))


def _lost(reading: _Reading, first_open: int) -> set[int]:
    return set(range(first_open)) - reading.fates().keys()


def _duplicated(reading: _Reading) -> list[int]:
    times = Counter([*reading.filtered, *(group for _, group in reading.consumed)])
    return [group for group, count in times.items() if count > 1]


def _out_of_order(reading: _Reading) -> list[int]:
    """Rows come sorted by group and events by time; in both, group and step must grow together."""
    return [
        group for (at, before), (step, group) in pairwise(reading.consumed) if group < before or step < at
    ]


def _wrong_steps(reading: _Reading, resumed: int, groups_per_step: int) -> list[int]:
    sizes = Counter(step for step, _ in reading.consumed)
    return [step for step in range(max([resumed, *(s + 1 for s in sizes)])) if sizes[step] != groups_per_step]
