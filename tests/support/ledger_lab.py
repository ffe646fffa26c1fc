"""Books for tests: small episodes, a run of a few steps with everything in it, and a writer to be killed.

Run as a program it is that writer, until somebody ends it: `python ledger_lab.py LEDGER FIRST_STEP`.
"""

import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from episodes import call, episode

from data.episodes.trajectory import Episode, VersionSpan
from data.ledger.ledger import Ledger
from rewards.score import Score
from rl.scored_group import ScoredGroup

STAGE = "rl"


def ask(path: Path, question: str) -> list[Any]:
    """Rows that answer one SQL question."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(question).fetchall()
    finally:
        connection.close()


def forked(
    *, root: int = 4, children: Sequence[int] = (6, 9), version: int = 0, flipped: int | None = None
) -> Episode:
    """A root that forks children and goes on for 2 tokens behind them, a tenth of a second each token.

    `flipped`: the version of the last call, if another one was published meanwhile.
    """
    spawned = range(1, 1 + len(children))
    calls = [
        call(0, 0, root, seconds=root / 10),
        *(call(i, i, size, after=(0,), seconds=size / 10) for i, size in zip(spawned, children, strict=True)),
        call(1 + len(children), 0, 2, after=spawned, seconds=0.2),
    ]
    versions = [version] * len(calls)
    versions[-1] = version if flipped is None else flipped
    return episode(
        [
            replace(
                made,
                versions=(VersionSpan(version=number, start=0, stop=len(made.output)),),
                logprobs=(-1.0,) * len(made.output),
            )
            for made, number in zip(calls, versions, strict=True)
        ]
    )


def score(value: float | None) -> Score:
    """Right where it is positive; one tenth of it for form."""
    if value is None:
        return Score(value=None, reason="no opinion")
    return Score(value=value, components={"correct": 0.9 * value, "format": 0.1 * value}, correct=value > 0)


def scored(index: int, values: Sequence[float | None] = (1.0, 0.0), *, version: int = 0) -> ScoredGroup:
    """A group of one episode for each reward."""
    return ScoredGroup(
        index=index,
        problem_id=problem(index),
        episodes=tuple(forked(version=version) for _ in values),
        scores=tuple(score(value) for value in values),
    )


def problem(index: int) -> str:
    """The sampler's problem at a place."""
    return f"p{index % 7}"


def record(step: int) -> str:
    """Where a step's episodes would lie."""
    return f"stages/{STAGE}/record/step-{step:06d}.episodes.jsonl.gz"


def start(ledger: Ledger, index: int, *, version: int = 0, engine: str | None = "engine 0") -> None:
    """A group goes to an engine."""
    ledger.start(STAGE, index, problem(index), version=version, engine=engine)


def finish(ledger: Ledger, group: ScoredGroup, *, engine: str = "engine 0") -> None:
    """A running group ends."""
    ledger.finish(
        STAGE, group.index, group.episodes, group.scores, engine=engine, rollout_s=2.5, reward_s=0.125
    )


def consume(ledger: Ledger, step: int, groups: Sequence[ScoredGroup]) -> None:
    """A step trains groups."""
    ledger.consumed(STAGE, step, groups, record=record(step))


def train_step(ledger: Ledger, step: int, groups: Sequence[ScoredGroup]) -> None:
    """A whole step, group after group."""
    for group in groups:
        ledger.start(STAGE, group.index, group.problem_id, version=step, engine="engine 0")
        finish(ledger, group)
    consume(ledger, step, groups)


def train(ledger: Ledger, steps: range) -> None:
    """Whole steps of two groups, from a ledger in which every group below the first of them is consumed."""
    for step in steps:
        train_step(ledger, step, [scored(2 * step + i, version=step) for i in range(2)])


def ticking(began: float = 1_800_000_000.0) -> Callable[[], float]:
    """A clock that moves a second whenever somebody looks: 2027-01-15 08:00:00 and on."""
    ticks = count()
    return lambda: began + next(ticks)


def example_books(path: Path) -> None:
    """The run of docs/ledger.md: two steps of two groups, one filtered, faults, a crash, one on its way."""
    with Ledger.open(path, clock=ticking()) as ledger:
        ledger.open_stage(STAGE, step=0, next_group=0)
        ledger.published(STAGE, 0, seconds=0.5, num_bytes=350_000_000, pause_s=0.1)
        groups = [scored(0, (1.0, 0.0)), scored(1, (1.0, 1.0)), scored(2, (1.0, None))]
        for group in groups:
            start(ledger, group.index)
        ledger.fault(STAGE, "engine", "engine 0", "its process was killed; started again at version 0")
        ledger.restart(STAGE, 2, version=0, engine="engine 1", why="engine 0 died")
        for group in groups:
            finish(ledger, group)
        ledger.filtered(STAGE, 1)
        consume(ledger, 0, [groups[0], groups[2]])
        start(ledger, 3)
    with Ledger.open(path, clock=ticking(1_800_000_100.0)) as ledger:
        ledger.fault(STAGE, "checkpoint", "step-000002", "checksum of model.safetensors; step-000001 is used")
        ledger.open_stage(STAGE, step=1, next_group=3)
        ledger.published(STAGE, 1, seconds=0.5, num_bytes=350_000_000, pause_s=0.1)
        for index in range(3, 6):
            start(ledger, index, version=1, engine=f"engine {index % 2}")
        uneven = replace(scored(3, (0.0, 0.5), version=1), episodes=(forked(version=1), long()))
        finish(ledger, uneven, engine="engine 1")
        finish(ledger, scored(4, (0.0, 0.0), version=0))
        consume(ledger, 1, [scored(3, (0.0, 0.25)), scored(4, (0.0, 0.0))])


def long() -> Episode:
    """Three children, and a publish while the root waited for them."""
    return forked(root=7, children=(5, 30, 12), version=0, flipped=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Processor time of everything that is written about a consumed call."""

    calls: int
    """In the books by then."""
    microseconds: float
    """For each of the last fifth of them."""


def cost_by_size(path: Path, sizes: Sequence[int], *, samples: int = 8) -> list[Cost]:
    """Writes steps of one group until each size is reached, and measures the last of them."""
    made = forked(children=(8,) * 6)
    per_step = samples * len(made.calls)
    found: list[Cost] = []
    step = 0
    with Ledger.open(path) as ledger:
        ledger.open_stage(STAGE, step=0, next_group=0)
        for size in sizes:
            last = max(step + 1, size // per_step)
            first = min(last - 1, last - size // per_step // 5)
            while step < last:
                if step == first:
                    began = time.process_time()
                group = ScoredGroup(
                    index=step, problem_id="p", episodes=(made,) * samples, scores=(score(1.0),) * samples
                )
                train_step(ledger, step, [group])
                step += 1
            spent = time.process_time() - began
            found.append(Cost(calls=step * per_step, microseconds=1e6 * spent / ((last - first) * per_step)))
    return found


def write_until_killed(path: Path, first: int) -> None:
    """Steps of two groups from `first` on, each printed once it is in the books."""
    with Ledger.open(path) as ledger:
        ledger.open_stage(STAGE, step=first, next_group=2 * first)
        for step in count(first):
            train(ledger, range(step, step + 1))
            print(step, flush=True)


if __name__ == "__main__":
    write_until_killed(Path(sys.argv[1]), int(sys.argv[2]))
