"""Small sudokus: grids, generator, solver and the task."""
