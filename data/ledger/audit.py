"""Whether the books of a stage add up: each group trained exactly once, in order, relative to the weights.

The same questions are asked of two readings that the ledger writes independently: the rows of `groups` as
they stand, and `events` replayed from the first one. Replaying, a resume before step t whose first open group
is k takes back what was consumed at t or later and what was filtered out from k on; nothing else does.

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
"""Every resume, and behind it what happened to groups until the next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """What was found; groups are named by their place in the sampler's order."""

    lost: tuple[int, ...]
    """Below the first open group, and neither consumed nor filtered."""
    duplicated: tuple[int, ...]
    """Consumed or filtered more than once, since the resume that last took them back."""
    out_of_order: tuple[int, ...]
    """Consumed behind a later group, or not the sampler's problem at that place."""
    wrong_steps: tuple[int, ...]
    """Steps that did not consume just `groups_per_step` groups; a missing one is among them."""
    disputed: tuple[int, ...]
    """Groups of which rows and events say different things."""
    consumed: int
    """Groups that the weights have been trained on."""
    filtered: int
    restarts: int
    """Attempts begun because an engine or actor died."""
    rollbacks: int
    """Resumes that took consumed groups back."""

    @property
    def clean(self) -> bool:
        """Whether each group was trained exactly once, in order."""
        return not (self.lost or self.duplicated or self.out_of_order or self.wrong_steps or self.disputed)


@dataclass(kw_only=True, slots=True)
class _Books:
    """One reading: what became of the groups, relative to the weights."""

    consumed: list[tuple[int, int]] = field(default_factory=list)
    """(step, group) in the order of consumption."""
    filtered: list[int] = field(default_factory=list)

    def take_back(self, step: int, next_group: int) -> None:
        self.consumed = [(at, group) for at, group in self.consumed if at < step]
        self.filtered = [group for group in self.filtered if group < next_group]

    def fates(self) -> dict[int, int | None]:
        """Group -> the step that consumed it, None if it was filtered."""
        return dict.fromkeys(self.filtered) | {group: step for step, group in self.consumed}


def audit(
    path: Path, stage_name: str, *, groups_per_step: int, problem_at: Callable[[int], str] | None = None
) -> Audit:
    """Reads the books of a stage, running or not.

    Args:
        path: the ledger.
        stage: its name in the recipe.
        groups_per_step: B.
        problem_at: group -> id of the sampler's problem there; None: not compared.

    Raises:
        ConfigError: no ledger, or the stage is not in it.
    """
    with reading(path) as books:
        resumes = books.execute(
            "SELECT step, next_group, rolled_back FROM incarnations WHERE stage = ? ORDER BY incarnation",
            (stage_name,),
        ).fetchall()
        if not resumes:
            known = ", ".join(name for (name,) in books.execute("SELECT DISTINCT stage FROM incarnations"))
            raise ConfigError(
                f"{path}: has no books of stage {stage_name!r}\n  fix: name one of: {known or 'none'}"
            )
        rows = _from_rows(books, stage_name)
        events, restarts = _from_events(books, stage_name)
        problems = dict(
            books.execute("SELECT group_index, problem FROM groups WHERE stage = ?", (stage_name,)).fetchall()
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


def _from_rows(books: sqlite3.Connection, stage_name: str) -> _Books:
    found = _Books()
    for group, state, step in books.execute(
        "SELECT group_index, state, step FROM groups WHERE stage = ? ORDER BY group_index", (stage_name,)
    ):
        if state == LedgerState.CONSUMED:
            found.consumed.append((step, group))
        elif state == LedgerState.FILTERED:
            found.filtered.append(group)
    return found


def _from_events(books: sqlite3.Connection, stage_name: str) -> tuple[_Books, int]:
    """-> (books, attempts begun because an engine or actor died)."""
    found, restarts = _Books(), 0
    for kind, group, step in books.execute(_HISTORY, {"stage": stage_name}):
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


def _lost(books: _Books, first_open: int) -> set[int]:
    return set(range(first_open)) - books.fates().keys()


def _duplicated(books: _Books) -> list[int]:
    times = Counter([*books.filtered, *(group for _, group in books.consumed)])
    return [group for group, count in times.items() if count > 1]


def _out_of_order(books: _Books) -> list[int]:
    """Rows come sorted by group and events by time; in both, group and step must grow together."""
    return [group for (at, before), (step, group) in pairwise(books.consumed) if group < before or step < at]


def _wrong_steps(books: _Books, resumed: int, groups_per_step: int) -> list[int]:
    sizes = Counter(step for step, _ in books.consumed)
    return [step for step in range(max([resumed, *(s + 1 for s in sizes)])) if sizes[step] != groups_per_step]
