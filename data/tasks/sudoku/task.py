"""Sudoku: fill a grid of 4 x 4 or 6 x 6 so that every row, column and box holds each number once.

    prompt  "1 2 3 4 / . 4 . 2 / 2 . 4 . / . 3 . ."     rows from the top; with `text: instruction` behind a
            sentence that says what to do, each row on a line of its own
    answer  "1 2 3 4 / 3 4 1 2 / 2 1 4 3 / 4 3 2 1"     the full grid; lines may stand in place of " / "

Every puzzle has exactly one solution. The fewer cells are given, the more must be tried: at least 4 of 16,
and 8 of 36, are needed. Puzzles that differ in the names of the numbers only are the same one.
"""

import random
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from data.errors import ConfigError
from data.steps.step import Range, StepLabel
from data.tasks.base import HeldOutParams, Split
from data.tasks.labelled import StepLabelledTask
from data.tasks.problem import Problem
from data.tasks.search_tree import SearchTree
from data.tasks.sudoku.generator import puzzle, relabelled
from data.tasks.sudoku.grid import (
    EMPTY,
    LETTERS,
    ROW,
    Grid,
    count_solutions,
    grid_text,
    is_consistent,
    parse_grid,
)
from data.tasks.sudoku.labels import cut_steps, label_steps
from data.tasks.sudoku.solver import DEAD, DONE, GUESS, IS, SolverParams, solve
from data.text.prompt import Prompt

_LEAST = {4: 4, 6: 8}
"""Fewest given cells with which a grid of a side can have one solution."""


class SudokuParams(SolverParams, HeldOutParams):
    """Size and difficulty of the puzzles, and the settings of the solver."""

    side: Literal[4, 6] = 4
    """Rows and columns of the grid; boxes are 2 x 2, or 2 rows of 3 columns."""
    givens_low: int = Field(default=5, ge=4, le=35)
    """Fewest given cells; uniform before puzzles that cannot be found are left out."""
    givens_high: int = Field(default=10, ge=4, le=35)
    """Most given cells of a puzzle."""
    text: Literal["words", "instruction"] = "words"
    """`words`: the grid alone, in single words. `instruction`: with a sentence in front, for chat models."""

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        if self.givens_low > self.givens_high:
            raise ValueError(
                f"givens_low ({self.givens_low}) must not exceed givens_high ({self.givens_high})"
            )
        if self.givens_low < _LEAST[self.side]:
            raise ValueError(
                f"givens_low ({self.givens_low}) must be at least {_LEAST[self.side]} with side {self.side}: "
                "with fewer cells no puzzle has one solution"
            )
        if self.givens_high >= self.side**2:
            raise ValueError(f"givens_high ({self.givens_high}) must leave one of {self.side**2} cells empty")
        return self


class Sudoku(StepLabelledTask):
    """The task of filling a small sudoku."""

    name = "sudoku"
    Params = SudokuParams

    def __init__(self, params: SudokuParams | None = None) -> None:
        self.params = params or SudokuParams()

    @property
    def largest_number(self) -> int:
        return self.params.side

    @property
    def words_only(self) -> bool:
        return self.params.text == "words"

    def words(self) -> list[str]:
        return [EMPTY, ROW, IS, DEAD, DONE, GUESS, *LETTERS] if self.words_only else []

    def pivots(self) -> list[str]:
        """The mark of a contradiction, after which the search goes on."""
        return [DEAD]

    def problems(self, split: Split, n: int, seed: int) -> list[Problem]:
        params, drawn = self.params, dict[str, Problem]()
        rng = random.Random(f"sudoku/{split}/{seed}")
        limit = 500 + 60 * n
        for _ in range(limit):
            if len(drawn) >= n:
                return list(drawn.values())
            givens = puzzle(params.side, rng.randint(params.givens_low, params.givens_high), rng)
            if givens is None:
                continue
            key = _key(givens, params.side)
            if split == params.split_of(key):
                drawn.setdefault(key, _make_problem(givens, params.side))
        remedy = "raise givens_high or widen givens_low..givens_high, or ask for fewer"
        if split != "train":
            remedy = f"raise {split}_percent, {remedy}"
        raise ConfigError(
            f"sudoku: the {split} split gave {len(drawn)} puzzles in {limit} draws with these parameters, "
            f"{n} were asked for; {remedy}"
        )

    def prompt(self, problem: Problem) -> Prompt:
        return Prompt(self._text(self._read(problem)))

    def longest_prompt(self) -> str:
        """Numbers everywhere, which take at least as many tokens as the marks of empty cells."""
        return self._text((self.params.side,) * self.params.side**2)

    def search(self, problem: Problem, rng: random.Random) -> SearchTree:
        return solve(self._read(problem), self.params.side, self.params, rng)

    def keep(self, tree: SearchTree, rng: random.Random) -> bool:
        """Solved searches always, failed ones with probability `keep_failed`."""
        return tree.solution is not None or rng.random() < self.params.keep_failed

    def check(self, problem: Problem, answer: str) -> bool:
        givens, grid = self._read(problem), parse_grid(answer, self.params.side)
        if grid is None or 0 in grid or not is_consistent(grid, self.params.side):
            return False
        return all(given in (0, value) for given, value in zip(givens, grid, strict=True))

    def step_ranges(self, segment: str) -> list[Range]:
        return cut_steps(segment)

    def label_steps(
        self, problem: Problem, before: Sequence[str], steps: Sequence[str]
    ) -> tuple[StepLabel, ...]:
        return label_steps(self._read(problem), self.params.side, before, steps)

    def key(self, problem: Problem) -> str:
        """The given cells, with the numbers renamed in order of appearance."""
        return _key(self._read(problem), self.params.side)

    def validate(self, problem: Problem) -> None:
        givens = self._read(problem)
        if 0 not in givens:
            raise ConfigError(f"problem {problem.id!r}: has no empty cell")
        if not is_consistent(givens, self.params.side):
            raise ConfigError(f"problem {problem.id!r}: a row, column or box holds a number twice")
        found = count_solutions(givens, self.params.side)
        if found != 1:
            raise ConfigError(
                f"problem {problem.id!r}: has {'no solution' if not found else 'several solutions'}; "
                "a puzzle has exactly one"
            )

    def _text(self, grid: Grid) -> str:
        side = self.params.side
        if self.words_only:
            return grid_text(grid, side)
        return (
            f"Fill the empty cells (.) of this {side} x {side} grid so that every row, every column and "
            f"every box of 2 rows and {side // 2} columns holds each number from 1 to {side} once. Give all "
            f"rows from top to bottom, with / between them.\n\n{grid_text(grid, side, chr(10))}"
        )

    def _read(self, problem: Problem) -> Grid:
        """The given cells of a problem, or ConfigError with what is wrong with them."""
        if problem.task != self.name:
            raise ConfigError(f"problem {problem.id!r}: belongs to task {problem.task!r}, not {self.name!r}")
        text, side = problem.fields.get("givens"), self.params.side
        grid = parse_grid(text, side) if isinstance(text, str) else None
        if grid is None:
            raise ConfigError(
                f"problem {problem.id!r}: `givens` must be {side} rows of {side} numbers up to {side} or "
                f"{EMPTY!r}, with {ROW!r} between rows (task.params.side is {side}), found {text!r}"
            )
        return grid


def _key(givens: Grid, side: int) -> str:
    return grid_text(relabelled(givens), side)


def _make_problem(givens: Grid, side: int) -> Problem:
    text = grid_text(givens, side)
    return Problem(f"sudoku-{text.replace(' ', '')}", "sudoku", {"givens": text})
