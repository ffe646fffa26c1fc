"""Sudokus with exactly one solution, drawn at random."""

import random

from data.tasks.sudoku.grid import Grid, candidates, count_solutions, tightest


def full_grid(side: int, rng: random.Random) -> Grid:
    """A random full grid. Every grid can occur; they are not equally likely."""
    grid = [0] * (side * side)
    assert _fill(grid, side, rng), "an empty grid has a solution"
    return tuple(grid)


def puzzle(side: int, givens: int, rng: random.Random) -> Grid | None:
    """A random grid with so many given cells and exactly one solution; None when this draw led to none.

    Cells are emptied in random order, each only if no second solution appears.
    """
    grid = list(full_grid(side, rng))
    left = len(grid)
    for cell in rng.sample(range(len(grid)), len(grid)):
        if left == givens:
            break
        value, grid[cell] = grid[cell], 0
        if _fits_another(grid, side, cell, value):
            grid[cell] = value
        else:
            left -= 1
    return tuple(grid) if left == givens else None


def relabelled(grid: Grid) -> Grid:
    """The grid with its numbers renamed in order of appearance: the same for every renaming of a puzzle.

    Example: (0, 3, 1, 3, ...) becomes (0, 1, 2, 1, ...).
    """
    names: dict[int, int] = {0: 0}
    return tuple(names.setdefault(value, len(names)) for value in grid)


def _fits_another(grid: list[int], side: int, cell: int, value: int) -> bool:
    """Whether the grid has a solution with another value in an empty cell."""
    for other in candidates(grid, side, cell):
        if other != value:
            grid[cell] = other
            found = count_solutions(grid, side, 1)
            grid[cell] = 0
            if found:
                return True
    return False


def _fill(grid: list[int], side: int, rng: random.Random) -> bool:
    found = tightest(grid, side)
    if found is None:
        return True
    cell, options = found
    for value in rng.sample(options, len(options)):
        grid[cell] = value
        if _fill(grid, side, rng):
            return True
    grid[cell] = 0
    return False
