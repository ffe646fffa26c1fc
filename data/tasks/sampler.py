"""The order of training problems: a pure function of the position, so a resume needs nothing else."""

import random
from array import array
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class ProblemSampler:
    """Every epoch visits each problem once, each epoch in another order, or all in the problems' own order.

    Example: with ProblemSampler(3, seed=0), positions 0, 1, 2 give 0, 1 and 2 in some order; so do 3, 4, 5.
    """

    num_problems: int
    seed: int
    shuffled: bool = True

    def __post_init__(self) -> None:
        assert self.num_problems > 0, "a sampler needs at least one problem"

    def problem_at(self, position: int) -> int:
        """Index of the problem at a position (0, 1, 2, ... without end), whatever was asked before."""
        assert position >= 0, position
        epoch, index = divmod(position, self.num_problems)
        if not self.shuffled:
            return index
        return _permutation(self.num_problems, self.seed, epoch)[index]


@lru_cache(
    maxsize=8
)  # neighbouring epochs of a training and an evaluation stream; an entry costs 8 bytes per problem
def _permutation(size: int, seed: int, epoch: int) -> "array[int]":
    order = array("q", range(size))
    # Seeding from text goes through SHA-512: neighbouring seeds and epochs are unrelated, no process differs.
    random.Random(f"braid/problems/{seed}/{epoch}").shuffle(order)
    return order
