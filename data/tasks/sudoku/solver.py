"""A solver for small sudokus: it tries the values of one cell, fills what follows, and tries on when stuck.

What it writes for the grid "1 2 3 4 / . 4 . 2 / 2 . 4 . / . 3 . ." (words):
    move      "B 1 = 3"       a value for row B, column 1
    message   the grid with it, "1 2 3 4 / 3 4 . 2 / ...": all that a fresh thread needs
    trace     "B 3 = 1 C 2 = 1 ... done"    cells with one candidate left, until the grid is full (`done`), a
              cell has no candidate ("C 4 none"), or every cell has two or more (`guess`)
    solution  the full grid
Below a guess the values of the tightest cell are tried in turn; their traces begin with the move.
"""

import random
from collections.abc import Sequence

from pydantic import Field

from data.params import Params
from data.tasks.search_tree import SearchNode, SearchTree
from data.tasks.sudoku.grid import Grid, candidates, cell_name, grid_text, tightest

DEAD, DONE, GUESS, IS = "none", "done", "guess", "="


class SolverParams(Params):
    """Settings of the solver. An imperfect one leaves room for reinforcement learning."""

    skip: float = Field(default=0.2, ge=0, le=1)
    """Probability that a value of the first cell is not tried; one value always is."""
    keep_failed: float = Field(default=0.3, ge=0, le=1)
    """Probability with which a search that found nothing is still shown."""


def solve(givens: Grid, side: int, params: SolverParams, rng: random.Random) -> SearchTree:
    """One search. The givens leave at least one cell empty and have exactly one solution."""
    options = {cell: candidates(givens, side, cell) for cell, value in enumerate(givens) if not value}
    fewest = min((len(values) for values in options.values() if len(values) > 1), default=1)
    cell = rng.choice([cell for cell, values in options.items() if len(values) == fewest])
    tried = [value for value in options[cell] if rng.random() >= params.skip]
    if not tried:
        tried = [rng.choice(options[cell])]
    children = tuple(_visit(givens, side, cell, value, first=True) for value in tried)
    solution = next((child.solution for child in children if child.solution is not None), None)
    return SearchTree(children=children, solution=solution)


def _visit(grid: Sequence[int], side: int, cell: int, value: int, *, first: bool = False) -> SearchNode:
    """The search below one value of one cell. `first`: a reader of the trace has just read the move."""
    after = list(grid)
    after[cell] = value
    move = f"{cell_name(cell, side)} {IS} {value}"
    message = grid_text(after, side)
    words = [] if first else [move]
    while (found := tightest(after, side)) is not None and len(found[1]) == 1:
        after[found[0]] = found[1][0]
        words.append(f"{cell_name(found[0], side)} {IS} {found[1][0]}")
    children: list[SearchNode] = []
    solution: str | None = None
    if found is None:
        words.append(DONE)
        solution = grid_text(after, side)
    elif not found[1]:
        words.append(f"{cell_name(found[0], side)} {DEAD}")
    else:
        words.append(GUESS)
        for option in found[1]:
            children.append(_visit(after, side, found[0], option))
            if (solution := children[-1].solution) is not None:
                break
    return SearchNode(
        move=move, message=message, trace=" ".join(words), children=tuple(children), solution=solution
    )
