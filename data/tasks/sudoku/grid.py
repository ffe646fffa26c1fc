"""Grids of small sudokus: rows, columns and boxes, their text, and whether a solution exists.

A grid is a row-major tuple of numbers, 0 for an empty cell. Boxes have 2 rows, and 2 columns with side 4 or 3
with side 6. Text: rows from the top, " / " between them, "." for an empty cell.
"""

from collections.abc import Sequence
from functools import cache

SIDES = (4, 6)
BOX_ROWS = 2
EMPTY, ROW = ".", "/"
LETTERS = ("A", "B", "C", "D", "E", "F")
"""Names of the rows, from the top; columns are numbers from the left."""
Grid = tuple[int, ...]


@cache
def peers(side: int) -> tuple[tuple[int, ...], ...]:
    """Cells that share a row, column or box with each cell, itself left out."""
    width = side // BOX_ROWS

    def meet(a: int, b: int) -> bool:
        (row, column), (other_row, other_column) = divmod(a, side), divmod(b, side)
        same_box = row // BOX_ROWS == other_row // BOX_ROWS and column // width == other_column // width
        return a != b and (row == other_row or column == other_column or same_box)

    cells = range(side * side)
    return tuple(tuple(other for other in cells if meet(cell, other)) for cell in cells)


def candidates(grid: Sequence[int], side: int, cell: int) -> list[int]:
    """Values that no peer of an empty cell has, ascending."""
    taken = {grid[other] for other in peers(side)[cell]}
    return [value for value in range(1, side + 1) if value not in taken]


def tightest(grid: Sequence[int], side: int) -> tuple[int, list[int]] | None:
    """The first empty cell with the fewest candidates, and those; None when the grid is full."""
    best: tuple[int, list[int]] | None = None
    for cell, value in enumerate(grid):
        if value:
            continue
        options = candidates(grid, side, cell)
        if best is None or len(options) < len(best[1]):
            best = cell, options
            if len(options) < 2:
                break
    return best


def count_solutions(grid: Sequence[int], side: int, limit: int = 2) -> int:
    """Number of ways to fill the grid, counted up to `limit`. Given cells must not contradict each other."""
    found = tightest(grid, side)
    if found is None:
        return 1
    cell, options = found
    trial, count = list(grid), 0
    for value in options:
        trial[cell] = value
        count += count_solutions(trial, side, limit - count)
        if count >= limit:
            break
    return count


def is_consistent(grid: Sequence[int], side: int) -> bool:
    """Whether no two cells of a row, column or box hold the same number."""
    return all(
        not value or all(grid[other] != value for other in peers(side)[cell])
        for cell, value in enumerate(grid)
    )


def grid_text(grid: Sequence[int], side: int, between: str = f" {ROW} ") -> str:
    """Text of a grid. Example, side 4: "1 2 3 4 / 3 4 . 2 / 2 . 4 3 / 4 3 2 1"."""
    words = [str(value) if value else EMPTY for value in grid]
    return between.join(" ".join(words[start : start + side]) for start in range(0, side * side, side))


def parse_grid(text: str, side: int) -> Grid | None:
    """The grid of a text, whose rows are lines or have " / " between them; None for any other text."""
    rows = [row.split() for row in text.strip().replace(f" {ROW} ", "\n").split("\n")]
    if len(rows) != side or any(len(row) != side for row in rows):
        return None
    known = {EMPTY: 0, **{str(value): value for value in range(1, side + 1)}}
    words = [word for row in rows for word in row]
    return tuple(known[word] for word in words) if all(word in known for word in words) else None


def cell_name(cell: int, side: int) -> str:
    """Row and column of a cell, as two words. Example, side 4: cell_name(6, 4) == "B 3"."""
    row, column = divmod(cell, side)
    return f"{LETTERS[row]} {column + 1}"
