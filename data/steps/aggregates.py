"""One value of the scores of a line of thought's steps. Pure functions.

    last    s_n                        the score of the whole, as search with reward models uses it
    min     min_k s_k                  a solution is as good as its worst step
    mean    sum_k s_k / n              favours neither many steps nor few, and hides one bad step among many
    prod    s_1 s_2 .. s_n             for scores in [0, 1]: the probability that every step is right

Example: scores 0.9, 0.5, 0.8 have last 0.8, min 0.5, mean 0.7333, prod 0.36.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

Aggregate = Literal["last", "min", "mean", "prod"]

AGGREGATES: dict[str, Callable[[Sequence[float]], float]] = {
    "last": lambda scores: scores[-1],
    "min": min,
    "mean": lambda scores: math.fsum(scores) / len(scores),
    "prod": math.prod,
}
"""Ways to one value; of at least one score."""
