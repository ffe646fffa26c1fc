"""Small sudokus: grids, generator, checker, solver, with cases worked out by hand."""

import random

import pytest
from pydantic import ValidationError

from data.errors import ConfigError
from data.tasks.problem import Problem
from data.tasks.search_tree import SearchNode, SearchTree, walk
from data.tasks.sudoku.generator import puzzle, relabelled
from data.tasks.sudoku.grid import candidates, count_solutions, grid_text, is_consistent, parse_grid
from data.tasks.sudoku.task import Sudoku, SudokuParams

# Row B lacks 1 and 3, row C 1 and 3, row D 1, 2 and 4.
GIVENS = "1 2 3 4 / . 4 . 2 / 2 . 4 . / . 3 . ."
SOLVED = "1 2 3 4 / 3 4 1 2 / 2 1 4 3 / 4 3 2 1"


def row(givens: object) -> Problem:
    return Problem("p", "sudoku", {"givens": givens})


def test_candidates_and_solutions_of_a_grid() -> None:
    grid = parse_grid(GIVENS, 4)
    assert grid is not None and grid_text(grid, 4) == GIVENS
    # B 1 meets 4 and 2 in its row, 1 and 2 in its column, 1, 2 and 4 in its box: 3 is left.
    assert candidates(grid, 4, 4) == [3]
    # D 4 meets 3 in its row, 4 and 2 in its column, 4 in its box: 1 is left.
    assert candidates(grid, 4, 15) == [1]
    assert count_solutions(grid, 4) == 1
    assert count_solutions((0,) * 16, 4, 1_000) == 288, "the number of 4 x 4 sudokus"
    assert parse_grid(SOLVED.replace(" / ", "\n"), 4) == parse_grid(SOLVED, 4)


def test_boxes_of_six_have_two_rows_and_three_columns() -> None:
    grid = [0] * 36
    grid[0], grid[8] = 1, 1  # A 1 and B 3: one box
    assert not is_consistent(grid, 6)
    grid[8], grid[9] = 0, 1  # A 1 and B 4: the next box
    assert is_consistent(grid, 6)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (SOLVED, True),
        (SOLVED.replace(" / ", "\n"), True),
        (f"  {SOLVED}\n", True),
        (SOLVED.replace("3 4 1 2", "3 4 2 1"), False),
        ("2 1 3 4 / 3 4 1 2 / 1 2 4 3 / 4 3 2 1", False),  # another full grid, not with these givens
        (GIVENS, False),
        (SOLVED.replace("/", ""), False),
        (SOLVED + " / 1 2 3 4", False),
        (SOLVED.replace("1", "١"), False),
        ("", False),
        ("1 " * 100_000, False),
    ],
)
def test_check(answer: str, right: bool) -> None:
    assert Sudoku().check(row(GIVENS), answer) is right


def test_a_search_written_out() -> None:
    # Row D lacks 1, 2 and 4. D 1 sees 1 and 2 above it: 4. D 4 sees 4 and 2 above it: 1. D 3 sees 3 and 4, so
    # it may be 1 or 2.
    task = Sudoku(SudokuParams(skip=0))
    tree = task.search(row(GIVENS), random.Random(0))
    assert [child.move for child in tree.children] == ["D 3 = 1", "D 3 = 2"]
    first, second = tree.children
    assert first.message == "1 2 3 4 / . 4 . 2 / 2 . 4 . / . 3 1 ."
    # After B 1 = 3, B 3 sees 3 4 2 in its row and 1 in its column: nothing is left.
    assert (first.trace, first.solution) == ("B 1 = 3 B 3 none", None)
    assert second == SearchNode(
        move="D 3 = 2",
        message="1 2 3 4 / . 4 . 2 / 2 . 4 . / . 3 2 .",
        trace="B 1 = 3 B 3 = 1 C 2 = 1 C 4 = 3 D 1 = 4 D 4 = 1 done",
        solution=SOLVED,
    )
    assert tree == SearchTree(children=(first, second), solution=SOLVED)


@pytest.mark.parametrize(
    ("params", "count"),
    [
        (SudokuParams(), 60),
        (SudokuParams(givens_low=4, givens_high=5, skip=0), 30),
        (SudokuParams(side=6, givens_low=12, givens_high=18), 25),
    ],
)
def test_puzzles_and_searches_keep_their_promises(params: SudokuParams, count: int) -> None:
    task = Sudoku(params)
    rows = task.problems("train", count, 0)
    assert len({task.key(problem) for problem in rows}) == count
    words = {*task.words(), *map(str, range(1, params.side + 1))}
    solved = 0
    for number, problem in enumerate(rows):
        task.validate(problem)
        grid = parse_grid(problem.fields["givens"], params.side)
        assert grid is not None
        assert params.givens_low <= sum(map(bool, grid)) <= params.givens_high
        assert len(task.prompt(problem).text) == len(task.longest_prompt())
        tree = task.search(problem, random.Random(number))
        assert tree == task.search(problem, random.Random(number))
        for node in (node for child in tree.children for node in walk(child)):
            assert set(f"{node.move} {node.message} {node.trace}".split()) <= words
            assert node.trace.split()[-1] in ("done", "guess", "none")
            assert node.solution is None or task.check(problem, node.solution)
        if tree.solution is not None:
            solved += 1
            assert task.check(problem, tree.solution)
    assert solved > 0.7 * count and (params.skip or solved == count)


def test_splits_are_disjoint_under_renaming_whatever_the_seeds() -> None:
    task = Sudoku(SudokuParams(givens_low=4, givens_high=4, validation_percent=30, test_percent=30))
    keys = [
        {task.key(problem) for problem in task.problems(split, 20, seed)}
        for split, seed in (("train", 3), ("validation", 4), ("test", 3))
    ]
    assert len(set.union(*keys)) == 60
    renamed = row(GIVENS.translate(str.maketrans("1234", "3142")))
    assert task.key(renamed) == task.key(row(GIVENS)) and relabelled((0, 3, 1, 3)) == (0, 1, 2, 1)


def test_the_generator_depends_on_its_rng_alone() -> None:
    assert puzzle(4, 6, random.Random(5)) == puzzle(4, 6, random.Random(5))
    assert Sudoku().problems("test", 12, 0)[:6] == Sudoku().problems("test", 6, 0)
    assert Sudoku().problems("test", 6, 1) != Sudoku().problems("test", 6, 0)


def test_an_instruction_for_chat_models() -> None:
    task = Sudoku(SudokuParams(text="instruction"))
    text = task.prompt(row(GIVENS)).text
    assert text.endswith("with / between them.\n\n1 2 3 4\n. 4 . 2\n2 . 4 .\n. 3 . .")
    assert "4 x 4 grid" in text and "2 rows and 2 columns" in text and task.words() == []


def test_too_hard_a_wish_says_what_would_help() -> None:
    with pytest.raises(
        ConfigError, match=r"gave 0 puzzles in 560 draws .* raise test_percent, raise givens_high"
    ):
        Sudoku(SudokuParams(test_percent=0)).problems("test", 1, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"givens_low": 11}, "givens_low .11. must not exceed givens_high"),
        ({"side": 6, "givens_low": 7}, "must be at least 8 with side 6"),
        ({"givens_high": 16}, "must leave one of 16 cells empty"),
        ({"side": 9}, "Input should be 4 or 6"),
        ({"validation_percent": 50, "test_percent": 50}, "leave something to train on"),
    ],
)
def test_parameters_are_checked(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SudokuParams.model_validate(change)


@pytest.mark.parametrize(
    ("givens", "message"),
    [
        (None, "must be 4 rows of 4 numbers"),
        ("1 2 3 4", "must be 4 rows of 4 numbers"),
        (GIVENS.replace("4", "5"), "must be 4 rows of 4 numbers"),
        (SOLVED, "has no empty cell"),
        (GIVENS.replace(". 4 . 2", "1 4 . 2"), "holds a number twice"),
        (GIVENS.replace("1 2 3 4", ". . . ."), "several solutions"),
        ("1 2 3 . / . . . 4 / . . . . / . . . .", "no solution"),
    ],
)
def test_a_broken_puzzle_is_an_error(givens: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sudoku().validate(row(givens))
