"""Pairs of right and wrong answers: which they are, their file, and the forests that they make."""

from pathlib import Path

import pytest

from data.forests.forest import unique_tokens
from rl.scorers.pair_file import read_pairs
from rl.scorers.pairs import meetings, pairs_of
from rl.scorers.target_rows import JudgedCall
from tests.support.outcome_lab import answers, pairs_at


def answer(problem: str, name: str, *said: int, right: bool) -> JudgedCall:
    return JudgedCall.of(problem, name, (1, 2, *said), 2, {len(said) - 1: float(right)})


def test_meetings_by_hand() -> None:
    assert list(meetings(2, 2)) == [(0, 0), (1, 1), (0, 1), (1, 0)]
    assert list(meetings(2, 3)) == [(0, 0), (1, 1), (0, 2), (1, 0), (0, 1), (1, 2)]
    assert list(meetings(3, 0)) == list(meetings(0, 3)) == []


@pytest.mark.parametrize(("first", "second"), [(4, 6), (5, 5), (1, 7), (8, 4)])
def test_all_meet_once_and_everybody_equally_often(first: int, second: int) -> None:
    met = list(meetings(first, second))
    assert len(set(met)) == len(met) == first * second
    for stop in range(1, len(met)):
        for side, size in ((0, first), (1, second)):
            counts = [sum(pair[side] == index for pair in met[:stop]) for index in range(size)]
            assert max(counts) - min(counts) <= 1


def test_only_right_against_wrong_of_one_problem_and_never_the_same_tokens() -> None:
    calls = [
        answer("a", "0", 5, right=True),
        answer("a", "1", 6, right=True),
        answer("b", "2", 7, right=False),  # nobody to compare it with
        answer("a", "3", 5, right=False),  # the tokens of 0
        answer("a", "4", 8, right=False),
        answer("c", "5", 9, right=True),
    ]
    made = pairs_of(calls, most=100, margin=0.5, seed=0)
    names = {(pair.better.episode_id, pair.worse.episode_id) for pair in made}
    assert names == {("0", "4"), ("1", "3"), ("1", "4")} and len(made) == 3
    assert {pair.margin for pair in made} == {0.5} and {pair.problem for pair in made} == {"a"}


def test_they_are_the_same_for_the_same_seed_and_no_more_than_asked_for() -> None:
    calls = answers(problems=3, each=8)
    first = pairs_of(calls, most=5, margin=0.0, seed=1)
    assert first == pairs_of(list(calls), most=5, margin=0.0, seed=1)
    assert first != pairs_of(calls, most=5, margin=0.0, seed=2)
    assert [pair.problem for pair in first] == ["p0"] * 5 + ["p1"] * 5 + ["p2"] * 5
    assert len(pairs_of(calls, most=100, margin=0.0, seed=1)) == 3 * 4 * 4


def test_the_file_gives_what_was_written(tiny_model_dir: Path, tmp_path: Path) -> None:
    calls = answers()
    made = pairs_of(calls, most=3, margin=0.25, seed=0)
    rows = pairs_at(tmp_path, tiny_model_dir, calls, made)
    assert [*read_pairs(rows.path, held_out=False), *read_pairs(rows.path, held_out=True)] == made
    assert {pair.problem for pair in read_pairs(rows.path, held_out=True)} == {"p3"}


def test_forests_hold_whole_pairs_and_equal_rows_once(tiny_model_dir: Path, tmp_path: Path) -> None:
    calls = answers()
    rows = pairs_at(tmp_path, tiny_model_dir, calls)
    forests = list(rows.forests(48))
    assert len(forests) > 2
    found = []
    for made in forests:
        assert unique_tokens(made.rows) <= 48
        assert len({row.ids for row in made.rows}) == len(made.rows)
        found += [(made.rows[better], made.rows[worse]) for better, worse, _ in made.pairs]
    expected = [(pair.better.row, pair.worse.row) for pair in read_pairs(rows.path, held_out=False)]
    key = lambda pair: (pair[0].ids, pair[1].ids)  # noqa: E731
    assert sorted(found, key=key) == sorted(expected, key=key)
    assert rows.left_out.calls == 0 and list(rows.forests(48)) == forests


def test_pairs_that_do_not_fit_are_counted(tiny_model_dir: Path, tmp_path: Path) -> None:
    rows = pairs_at(tmp_path, tiny_model_dir, answers())
    total = len(list(read_pairs(rows.path, held_out=False)))
    fit = sum(len(made.pairs) for made in rows.forests(14))
    assert 0 < fit < total and rows.left_out.calls == 2 * (total - fit)
