"""Pairs of a right and a wrong answer to one problem, in a fixed order. Pure Python.

Answers that are alike say nothing about each other: right ones are paired with wrong ones only, and never two
of the same tokens.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import lcm

from rl.scorers.target_rows import JudgedCall


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two calls of one problem."""

    better: JudgedCall
    worse: JudgedCall
    margin: float
    """By how much the reward of the better one should be higher."""

    @property
    def problem(self) -> str:
        """The problem that both answer."""
        return self.better.problem_id


def pairs_of(calls: Sequence[JudgedCall], *, most: int, margin: float, seed: int) -> list[Pair]:
    """At most `most` pairs of each problem, in the order in which the problems come; equal for equal calls
    and seeds. All answers of a problem occur about equally often.
    """
    by_problem: dict[str, list[JudgedCall]] = {}
    for call in calls:
        by_problem.setdefault(call.problem_id, []).append(call)
    found: list[Pair] = []
    for problem, members in by_problem.items():
        random.Random(f"braid/pairs/{seed}/{problem}").shuffle(members)
        right = [call for call in members if call.row.targets[-1] == 1.0]
        wrong = [call for call in members if call.row.targets[-1] == 0.0]
        met = ((right[i], wrong[j]) for i, j in meetings(len(right), len(wrong)))
        differ = ((one, other) for one, other in met if one.row.ids != other.row.ids)
        found += [Pair(better=one, worse=other, margin=margin) for one, other in islice(differ, most)]
    return found


def meetings(first: int, second: int) -> Iterator[tuple[int, int]]:
    """Every (i, j) with i < first and j < second once, so that the first n of them use each i, and each j,
    equally often up to one.

    Example: 2, 2 -> (0, 0), (1, 1), (0, 1), (1, 0).
    """
    if first and second:
        round_trip = lcm(first, second)
        for number in range(first * second):
            yield number % first, (number + number // round_trip) % second
