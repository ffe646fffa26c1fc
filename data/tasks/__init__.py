"""Tasks: problems and their files, solvers, search trees, checkers, and the order of training."""
