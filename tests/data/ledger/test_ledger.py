"""The ledger against a model in plain Python, crashes, `kill -9`, and files that it must refuse."""

import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import ledger_lab
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ledger_lab import STAGE, ask, consume, cost_by_size, finish, scored, start, ticking, train

from data.errors import ConfigError, StorageError
from data.ledger.audit import audit
from data.ledger.ledger import Ledger
from data.ledger.queries import worst_groups
from data.ledger.schema import LEDGER_VERSION
from rewards.score import CallReward, StepReward

PER_STEP = 2


@dataclass
class Group:
    """What the model knows of a group."""

    state: str
    attempts: int = 1
    step: int | None = None


@dataclass
class Model:
    """The books as they should be."""

    groups: dict[int, Group] = field(default_factory=dict)
    step: int = 0
    checkpoints: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])
    """(step, first open group), oldest first."""
    restarts: int = 0
    rollbacks: int = 0

    def named(self, state: str) -> list[int]:
        return [index for index, group in sorted(self.groups.items()) if group.state == state]

    def ready(self) -> list[int] | None:
        """The next groups to be consumed: everything in front of them has ended."""
        batch: list[int] = []
        for index, group in sorted(self.groups.items()):
            if group.state in ("running", "pending"):
                return None
            if group.state == "finished":
                batch.append(index)
            if len(batch) == PER_STEP:
                return batch
        return None

    def resume(self, checkpoint: int) -> None:
        """From one of the checkpoints; later ones are gone with it."""
        del self.checkpoints[checkpoint + 1 :]
        self.step, first_open = self.checkpoints[-1]
        undone = [group for index, group in self.groups.items() if index >= first_open]
        self.rollbacks += any(group.state == "consumed" for group in undone)
        for group in undone:
            group.state, group.step = "pending", None


class Books(RuleBasedStateMachine):
    """Any order of events that the controller can produce."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "ledger.sqlite"
        self.model = Model()
        self.open()
        self.reader = sqlite3.connect(self.path)

    def open(self) -> None:
        self.ledger = Ledger.open(self.path, clock=ticking())
        step, next_group = self.model.checkpoints[-1]
        self.ledger.open_stage(STAGE, step=step, next_group=next_group)

    @rule()
    def start(self) -> None:
        """Groups start in order: the first that is pending, or a new one."""
        index = min(self.model.named("pending"), default=len(self.model.groups))
        start(self.ledger, index, version=self.model.step)
        group = self.model.groups.setdefault(index, Group("running", attempts=0))
        group.state, group.attempts = "running", group.attempts + 1

    @precondition(lambda self: self.model.named("running"))
    @rule(data=st.data(), values=st.tuples(*[st.one_of(st.none(), st.floats(-1, 1))] * 2))
    def finish(self, data: st.DataObject, values: tuple[float | None, ...]) -> None:
        index = data.draw(st.sampled_from(self.model.named("running")))
        finish(self.ledger, scored(index, values, version=self.model.step))
        self.model.groups[index].state = "finished"

    @precondition(lambda self: self.model.named("running"))
    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        index = data.draw(st.sampled_from(self.model.named("running")))
        self.ledger.restart(STAGE, index, version=self.model.step, engine="engine 1", why="engine 0 died")
        self.model.groups[index].attempts += 1
        self.model.restarts += 1

    @precondition(lambda self: self.model.named("finished"))
    @rule(data=st.data())
    def filter(self, data: st.DataObject) -> None:
        index = data.draw(st.sampled_from(self.model.named("finished")))
        self.ledger.filtered(STAGE, index)
        self.model.groups[index].state = "filtered"

    @precondition(lambda self: self.model.ready())
    @rule(keep=st.booleans())
    def consume(self, keep: bool) -> None:
        """`keep`: a checkpoint is written behind the step."""
        batch = self.model.ready()
        assert batch is not None
        consume(self.ledger, self.model.step, [scored(index, (0.5, 0.25)) for index in batch])
        for index in batch:
            self.model.groups[index] = Group("consumed", self.model.groups[index].attempts, self.model.step)
        self.model.step += 1
        if keep:
            self.model.checkpoints.append((self.model.step, batch[-1] + 1))

    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """The process is gone, and perhaps the newest checkpoints cannot be read."""
        self.ledger.close()
        last = len(self.model.checkpoints) - 1
        self.model.resume(data.draw(st.integers(0, last)) if data.draw(st.booleans()) else last)
        self.open()

    @invariant()
    def rows_are_the_models(self) -> None:
        rows = self.reader.execute(
            "SELECT group_index, state, attempts, step, record FROM groups ORDER BY group_index"
        ).fetchall()
        expected = []
        for index, group in sorted(self.model.groups.items()):
            record = None if group.step is None else ledger_lab.record(group.step)
            expected.append((index, group.state, group.attempts, group.step, record))
        assert rows == expected

    @invariant()
    def episodes_are_those_of_ended_groups(self) -> None:
        rows = self.reader.execute(
            "SELECT group_index, COUNT(DISTINCT sample), COUNT(call_index) FROM groups JOIN calls"
            " USING (group_id) GROUP BY group_id"
        ).fetchall()
        ended = [index for state in ("finished", "filtered", "consumed") for index in self.model.named(state)]
        assert sorted(rows) == [(index, 2, 8) for index in sorted(ended)]

    def teardown(self) -> None:
        if not hasattr(self, "ledger"):
            return
        self.ledger.close()
        self.reader.close()
        found = audit(self.path, STAGE, groups_per_step=PER_STEP, problem_at=ledger_lab.problem)
        shutil.rmtree(self.folder)
        assert found.clean, found
        assert found.consumed == PER_STEP * self.model.step
        assert found.filtered == len(self.model.named("filtered"))
        assert (found.restarts, found.rollbacks) == (self.model.restarts, self.model.rollbacks)


@pytest.mark.medium
class TestBooks(Books.TestCase):
    settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_what_is_written_of_an_episode_and_its_calls(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        ledger.open_stage(STAGE, step=0, next_group=0)
        start(ledger, 0, version=3)
        # Root of 7 tokens, children of 5, 30 and 12, 2 more: 56 in all, 7 + 30 + 2 = 39 on the longest path,
        # a tenth of a second each.
        group = scored(0, (None, 0.5))
        finish(ledger, ledger_lab.replace(group, episodes=(ledger_lab.long(),) * 2), engine="engine 1")
    ungraded, graded = ask(path, "SELECT * FROM episodes ORDER BY sample")
    cost = (56, 39, pytest.approx(3.9), 3, 1, 5, 4, 0, 0, 1)
    assert ungraded == (1, 0, None, "{}", "[]", "no opinion", None, "returned", *cost)
    assert graded == (1, 1, 0.5, '{"correct":0.45,"format":0.05}', "[]", "", 1, "returned", *cost)
    calls = ask(path, "SELECT * FROM calls WHERE sample = 0")
    assert calls[2] == (1, 0, 2, 2, "any", 1, 30, 0, "stop", "[[0,0,30]]", 0.0, 3.0)
    assert calls[4] == (1, 0, 4, 0, "any", 1, 2, 0, "stop", "[[1,0,2]]", 0.0, 0.2)


def test_a_step_keeps_rewards_as_it_trained_them(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        ledger.open_stage(STAGE, step=0, next_group=0)
        start(ledger, 0)
        finish(ledger, scored(0, (1.0, 0.0)))
        assert ask(path, "SELECT reward FROM episodes") == [(1.0,), (0.0,)]
        trained = scored(0, (0.25, 0.0))
        first = ledger_lab.replace(
            trained.scores[0],
            calls=(CallReward(term="format", call=1, value=0.5),),
            steps=(StepReward(term="format", call=0, start=2, stop=5, value=-1.0),),
        )
        consume(ledger, 0, [ledger_lab.replace(trained, scores=(first, trained.scores[1]))])
    assert ask(path, "SELECT reward, parts, placed FROM episodes")[0] == (
        0.25, '{"correct":0.225,"format":0.025}', '[["format",1,null,null,0.5],["format",0,2,5,-1.0]]',
    )  # fmt: skip


@pytest.mark.parametrize("change", ["UPDATE events SET step = 7", "DELETE FROM faults"])
def test_history_cannot_be_changed(change: str, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger_lab.example_books(path)
    with pytest.raises(sqlite3.IntegrityError, match="only ever added to"):
        ask(path, change)


def test_moves_that_no_group_can_make_are_refused_and_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        ledger.open_stage(STAGE, step=0, next_group=0)
        start(ledger, 0)
        start(ledger, 1)
        finish(ledger, scored(0))
        before = ask(path, "SELECT * FROM groups"), ask(path, "SELECT * FROM events")
        for move in (
            lambda: start(ledger, 0),
            lambda: finish(ledger, scored(0)),
            lambda: ledger.filtered(STAGE, 1),
            lambda: consume(ledger, 0, [scored(0), scored(1)]),
            lambda: ledger.restart(STAGE, 5, version=0, engine=None, why=""),
        ):
            with pytest.raises(AssertionError, match=r"group \d of stage 'rl' is not"):
                move()
        assert (ask(path, "SELECT * FROM groups"), ask(path, "SELECT * FROM events")) == before


@pytest.mark.medium
def test_killed_at_any_moment_the_file_holds_whole_transactions(tmp_path: Path, no_leftovers: None) -> None:
    path = tmp_path / "ledger.sqlite"
    next_step = 0
    for delay in (0.0, 0.003, 0.007, 0.02, 0.05):
        next_step = 1 + _write_and_kill(path, next_step, delay)
        assert ask(path, "PRAGMA integrity_check") == [("ok",)]
        assert ask(path, "PRAGMA foreign_key_check") == []
        # Every ended group with both episodes, every episode with all of its four calls, every move with its
        # event: each of these pairs is written by one transaction.
        ended = "state IN ('finished', 'filtered', 'consumed')"
        assert ask(path, f"SELECT COUNT(*) FROM groups WHERE {ended}") == ask(
            path, "SELECT COUNT(*) / 8 FROM calls"
        )
        assert ask(path, "SELECT COUNT(*) / 2.0 FROM episodes") == ask(
            path, "SELECT COUNT(*) / 8.0 FROM calls"
        )
        consumed = ask(path, "SELECT MAX(step) FROM groups")[0][0]
        assert consumed - (next_step - 1) in (0, 1), "printed means written"
        found = audit(path, STAGE, groups_per_step=2, problem_at=ledger_lab.problem)
        assert found.clean, found


def _write_and_kill(path: Path, first: int, delay: float) -> int:
    """-> the last step that the killed writer said it had written."""
    writer = subprocess.Popen(
        [sys.executable, ledger_lab.__file__, str(path), str(first)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with writer:
        assert writer.stdout is not None
        seen = [int(writer.stdout.readline()) for _ in range(3)]
        time.sleep(delay)
        writer.kill()
        seen += [int(line) for line in writer.stdout]
    return seen[-1]


def test_a_full_disk_is_told_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        ledger.open_stage(STAGE, step=0, next_group=0)
        start(ledger, 0)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        # No file may grow beyond what the log of the database has already.
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name("ledger.sqlite-wal").stat().st_size, hard))
        try:
            with pytest.raises(ConfigError, match=r"ledger.sqlite: (?s:.*)room left"):
                finish(ledger, scored(0))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert ask(path, "SELECT state FROM groups") == [("running",)]
        finish(ledger, scored(0))
        assert ask(path, "SELECT state FROM groups") == [("finished",)]


@pytest.mark.parametrize("version", [LEDGER_VERSION - 1, LEDGER_VERSION + 1])
def test_another_schema_is_refused(version: int, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger.open(path).close()
    ask(path, f"PRAGMA user_version = {version}")
    age = "an older" if version < LEDGER_VERSION else "a newer"
    for refuse in (lambda: Ledger.open(path), lambda: audit(path, STAGE, groups_per_step=2)):
        with pytest.raises(ConfigError, match=f"written by {age} Braid .schema {version};"):
            refuse()


def test_what_is_no_ledger_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    text, other = tmp_path / "notes.txt", tmp_path / "other.sqlite"
    text.write_text("not a database, and longer than the hundred bytes that a header of one takes up" * 9)
    ask(other, "CREATE TABLE songs (title)")
    for path, reason in ((text, "file is not a database"), (other, "not the ledger of a run")):
        content = path.read_bytes()
        for refuse in (Ledger.open, lambda path: audit(path, STAGE, groups_per_step=2)):
            with pytest.raises(ConfigError, match=f"(?s){path.name}: .*{reason}.*fix: "):
                refuse(path)
        assert path.read_bytes() == content
    with pytest.raises(ConfigError, match="there is no such ledger"):
        audit(tmp_path / "missing.sqlite", STAGE, groups_per_step=2)
    assert not (tmp_path / "missing.sqlite").exists()


@pytest.mark.medium
def test_flipped_bytes_are_one_message_or_do_no_harm(tmp_path: Path) -> None:
    """300 single bytes of a small ledger, one at a time: never a traceback of SQLite, never a crash."""
    path, refused = tmp_path / "ledger.sqlite", 0
    with Ledger.open(path) as ledger:
        ledger.open_stage(STAGE, step=0, next_group=0)
        train(ledger, range(3))
    content, draw = path.read_bytes(), random.Random(0)
    for _ in range(300):
        position = draw.randrange(len(content))
        path.write_bytes(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
        for question in (lambda: audit(path, STAGE, groups_per_step=2), lambda: worst_groups(path, STAGE)):
            try:
                question()
            except ConfigError as error:
                assert str(path) in str(error) and "fix: " in str(error)
                refused += 1
    assert refused > 30


@pytest.mark.medium
def test_a_damaged_ledger_is_not_written_to(tmp_path: Path) -> None:
    """150 single bytes in use, one at a time: refused and left as it was, or a run goes on in it."""
    path, refused = tmp_path / "ledger.sqlite", 0
    with Ledger.open(path) as ledger:
        ledger.open_stage(STAGE, step=0, next_group=0)
        train(ledger, range(3))
    content, draw = path.read_bytes(), random.Random(0)
    used = [position for position, byte in enumerate(content) if byte]
    for position in draw.sample(used, 150):
        damaged = content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :]
        path.write_bytes(damaged)
        try:
            opened = Ledger.open(path)
        except (ConfigError, StorageError) as error:
            assert str(path) in str(error) and "fix: " in str(error)
            assert path.read_bytes() == damaged
            refused += isinstance(error, StorageError)
            continue
        with opened:
            opened.open_stage(STAGE, step=3, next_group=6)
    assert refused > 30


def test_readers_see_whole_transactions_while_the_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        ledger.open_stage(STAGE, step=0, next_group=0)
        for step in range(4):
            train(ledger, range(step, step + 1))
            start(ledger, 2 * step + 2)
            found = audit(path, STAGE, groups_per_step=2)
            assert found.clean and found.consumed == 2 * (step + 1)
            ledger.open_stage(STAGE, step=step + 1, next_group=2 * step + 2)


@pytest.mark.slow
def test_the_cost_of_a_call_does_not_grow_with_the_books(tmp_path: Path) -> None:
    few = [cost_by_size(tmp_path / f"few-{i}.sqlite", [10**2, 10**3]) for i in range(9)]
    many = cost_by_size(tmp_path / "many.sqlite", [10**4, 10**5])
    assert many[-1].calls > 99_000 and few[0][1].calls < 1_100
    # So short a time is hard to measure: the median of nine.
    at_hundred, at_thousand = (median(cost[i].microseconds for cost in few) for i in range(2))
    assert many[-1].microseconds < 1.5 * min(at_hundred, at_thousand), (few, many)
