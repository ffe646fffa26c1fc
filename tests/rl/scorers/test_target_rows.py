"""Recorded calls with targets: where they stand, what a forest of them is, and the file that holds them."""

import random
from pathlib import Path
from typing import cast

from forest_lab import make_episode

from data.forests.forest import build_forest
from data.forests.rows import Row, TargetRow
from data.text.codec import Codec
from rl.scorers.row_file import TargetRows, read_rows, write_rows
from rl.scorers.target_rows import JudgedCall, outcome_call

NO_CODEC = cast(Codec, None)


def call(problem: str, episode: str, ids: tuple[int, ...], first: int, **targets: float) -> JudgedCall:
    places = {int(place[1:]): target for place, target in targets.items()}
    return JudgedCall.of(problem, episode, ids, first, places)


def test_a_target_is_at_its_own_token_and_a_label_in_front_of_it() -> None:
    """Rows 5 6 7 and 5 6 8 9: the second has targets at 8 and 9, which are the nodes 3 and 4."""
    ids = (5, 6, 8, 9)
    rows: list[Row] = [
        TargetRow(ids=(5, 6, 7), first=2, weights=(1.0,), targets=(0.25,)),
        TargetRow(ids=ids, first=2, weights=(1.0, 1.0), targets=(1.0, 0.0)),
    ]
    forest = build_forest(rows)
    assert forest.ids == [5, 6, 7, 8, 9]
    assert forest.labels.nodes == [2, 3, 4]
    assert forest.labels.targets == [7, 8, 9]
    predicted = build_forest([Row(ids=ids, first=2, weights=(1.0, 1.0))])
    assert predicted.labels.nodes == [1, 2]


def test_where_the_targets_of_a_call_are() -> None:
    found = call("p", "0/0", (5, 6, 7, 8, 9), 2, p0=1.0, p2=0.5)
    assert found.row.weights == (1.0, 0.0, 1.0) and found.row.targets == (1.0, 0.0, 0.5)
    assert found.places == [0, 2]


def test_an_outcome_is_at_the_end_of_the_root() -> None:
    episode = make_episode("0/0", random.Random(1), calls=3)
    (found,) = outcome_call(episode, correct=True)
    root = episode.calls[0]
    assert found.row.ids == episode.context_ids(root) + root.output
    assert found.places == [len(root.output) - 1] and found.row.targets[-1] == 1.0


def test_the_file_gives_what_was_written_and_is_equal_for_equal_rows(tmp_path: Path) -> None:
    calls = [
        (call("a", "0/0", (1, 2, 3), 1, p0=1.0, p1=0.0), False),
        (call("b", "1/0", (1, 2, 4), 1, p1=0.75), True),
        (call("a", "0/1", (1, 2, 5), 2, p0=0.0), False),
    ]
    first, second = tmp_path / "a.gz", tmp_path / "b.gz"
    write_rows(first, calls)
    write_rows(second, calls)
    assert first.read_bytes() == second.read_bytes()
    assert list(read_rows(first, held_out=False)) == [calls[0][0], calls[2][0]]
    assert list(read_rows(first, held_out=True)) == [calls[1][0]]


def test_forests_hold_every_training_call_once_and_none_that_is_held_out(tmp_path: Path) -> None:
    rng, calls = random.Random(3), list[tuple[JudgedCall, bool]]()
    for number in range(40):
        ids = (1, number % 5, *(rng.randrange(9) for _ in range(rng.randint(1, 12))))
        calls.append((call(str(number % 5), str(number), ids, 2, p0=rng.random()), number % 4 == 0))
    long = call("9", "long", tuple(range(40)), 2, p0=1.0)
    write_rows(tmp_path / "rows.gz", [*calls, (long, False)])
    rows = TargetRows(path=tmp_path / "rows.gz", codec=NO_CODEC, seed=0)
    forests = list(rows.forests(30))
    assert rows.left_out.calls == 1
    found = sorted(row.ids for forest in forests for row in forest)
    assert found == sorted(each.row.ids for each, held_out in calls if not held_out)
    assert all(len(build_forest(forest)) <= 30 for forest in forests)
    assert [[row.ids for row in forest] for forest in TargetRows(
        path=tmp_path / "rows.gz", codec=NO_CODEC, seed=0
    ).forests(30)] == [[row.ids for row in forest] for forest in forests]  # fmt: skip
    assert len(rows.held_out()) == 10
