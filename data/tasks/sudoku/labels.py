"""Exact labels of the steps of a sudoku search (data.tasks.sudoku.solver says what it writes).

    value   "B 3 = 1"              valid when the cell is empty and the value not in its row, column or box
    dead    "C 4 none"             valid when the cell is empty and has no candidate
    end     "done", "guess"        valid when the grid is full, or every empty cell has two candidates or more
    grid    "1 2 3 4 / 3 4 . 2 / ..."    valid when it keeps the given cells and nothing stands there twice
The goal is reachable while every filled cell has the value of the only solution. After a dead end a value is
tried in the grid in which its cell was guessed last, or in the one that the search began with.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from data.steps.search_lines import matched_ranges
from data.steps.step import UNLABELLED, Range, StepLabel
from data.tasks.sudoku.grid import LETTERS, Grid, candidates, is_consistent, parse_grid, tightest
from data.tasks.sudoku.solver import DEAD, DONE, GUESS

_PATTERN = re.compile(
    rf"(?P<row>[A-F]) (?P<column>[1-6]) (?:= (?P<value>[1-6])|{DEAD})(?!\S)"
    rf"|(?<!\S)(?P<end>{DONE}|{GUESS})(?!\S)"
    r"|(?<!\S)(?P<grid>[.1-6](?: [.1-6])*(?: / [.1-6](?: [.1-6])*)+)(?!\S)"
)


def cut_steps(segment: str) -> list[Range]:
    """Ranges of the steps of a segment."""
    return matched_ranges(_PATTERN, segment)


def label_steps(
    givens: Grid, side: int, before: Sequence[str], steps: Sequence[str]
) -> tuple[StepLabel, ...]:
    """[S] labels of the steps of one call; see `StepLabelledTask.label_steps`."""
    reader = _Reader(givens=givens, side=side, solution=solved(givens, side), first=givens, grid=givens)
    for step in before:
        reader.read(step)
    return tuple(reader.read(step) for step in steps)


def solved(givens: Grid, side: int) -> Grid:
    """The full grid of a puzzle with exactly one solution."""
    grid = list(givens)

    def fill() -> bool:
        found = tightest(grid, side)
        if found is None:
            return True
        cell, options = found
        for value in options:
            grid[cell] = value
            if fill():
                return True
        grid[cell] = 0
        return False

    assert fill(), "a puzzle has a solution"
    return tuple(grid)


@dataclass(kw_only=True, slots=True)
class _Reader:
    """Reads steps in order, and keeps the grid and the guesses that led to it."""

    givens: Grid
    side: int
    solution: Grid
    first: Grid
    """The grid that this search began with."""
    grid: Grid
    guesses: list[tuple[Grid, int]] = field(default_factory=list)
    """Grids in which a value was tried, each with the cell; the first is the root's."""
    tries: bool = True
    """Whether the next value is a guess: at the beginning, behind `guess`, and behind a dead end."""
    goes_back: bool = False
    """Whether the next value is tried in an earlier grid."""

    def read(self, step: str) -> StepLabel:
        """The label of a step, by what has been read before it."""
        found = _PATTERN.search(step)
        if found is None:
            return UNLABELLED
        if found["grid"] is not None:
            return self._read_grid(found["grid"])
        if found["end"] is not None:
            return self._read_end(found["end"])
        row, column = LETTERS.index(found["row"]), int(found["column"]) - 1
        if row >= self.side or column >= self.side:
            return StepLabel(valid=False, reachable=False)
        cell = row * self.side + column
        return (
            self._read_dead(cell) if found["value"] is None else self._read_value(cell, int(found["value"]))
        )

    def _label(self, valid: bool) -> StepLabel:
        right = all(value in (0, true) for value, true in zip(self.grid, self.solution, strict=True))
        return StepLabel(valid=valid, reachable=right)

    def _read_grid(self, text: str) -> StepLabel:
        grid = parse_grid(text, self.side)
        if grid is None:
            return StepLabel(valid=False, reachable=False)
        self.first = self.grid = grid
        self.guesses, self.tries, self.goes_back = [], grid == self.givens, False
        kept = all(given in (0, value) for given, value in zip(self.givens, grid, strict=True))
        return self._label(kept and is_consistent(grid, self.side))

    def _read_end(self, word: str) -> StepLabel:
        if word == DONE:
            self.goes_back = True
            return self._label(0 not in self.grid and is_consistent(self.grid, self.side))
        self.tries = True
        found = tightest(self.grid, self.side)
        return self._label(found is not None and len(found[1]) > 1)

    def _read_dead(self, cell: int) -> StepLabel:
        self.goes_back = True
        label = self._label(not self.grid[cell] and not candidates(self.grid, self.side, cell))
        return StepLabel(valid=label.valid, reachable=label.reachable and not label.valid)

    def _read_value(self, cell: int, value: int) -> StepLabel:
        if self.goes_back or self.grid[cell]:
            self._go_back(cell)
        if self.tries:
            self.guesses.append((self.grid, cell))
        self.tries = False
        valid = not self.grid[cell] and value in candidates(self.grid, self.side, cell)
        self.grid = (*self.grid[:cell], value, *self.grid[cell + 1 :])
        return self._label(valid)

    def _go_back(self, cell: int) -> None:
        """To the grid in which this cell was guessed last; else, with nothing to go back to, stay."""
        for depth in range(len(self.guesses) - 1, -1, -1):
            if self.guesses[depth][1] == cell:
                self.grid = self.guesses[depth][0]
                del self.guesses[depth:]
                self.tries, self.goes_back = True, False
                return
        if self.goes_back:
            self.grid, self.guesses, self.tries, self.goes_back = self.first, [], True, False
