"""Training rows of supervised fine-tuning: solver -> search tree -> the protocol's demonstration -> one row
per call.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from data.problem import Problem
from data.rows import Row, call_row, pack_rows
from data.sampler import ProblemSampler
from data.task_base import Task
from data.tokenizer import Codec
from data.trajectory import Episode
from rollout.demonstrate import demonstrate
from rollout.protocols.base import ThinkingProtocol

_WINDOW = 512
"""Demonstrations packed together: enough to fill bins, few enough to keep memory flat."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DemonstrationSource:
    """Everything that decides which demonstrations there are; the same fields give the same ones."""

    task: Task
    protocol: ThinkingProtocol
    codec: Codec
    problems: Sequence[Problem]
    max_length: int
    seed: int
    pivot_weight: float

    def episodes(self, start: int, stop: int) -> Iterator[Episode]:
        """Demonstrations number `start` up to `stop`, minus those the task does not show or that do not
        fit.
        """
        sampler = ProblemSampler(len(self.problems), self.seed)
        for number in range(start, stop):
            rng = random.Random(f"braid/demonstrations/{self.seed}/{number}")
            problem = self.problems[sampler.problem_at(number)]
            tree = self.task.search(problem, rng)
            if not self.task.keep(tree, rng):
                continue
            episode = demonstrate(
                self.protocol,
                self.codec.encode(self.task.prompt(problem)),
                tree,
                id=str(number),
                problem=problem.id,
                max_length=self.max_length,
            )
            if episode is not None:
                yield episode

    def rows(self, episode: Episode) -> list[Row]:
        """One row a call; results, answers and verdicts weigh `pivot_weight`, everything else sampled
        weighs 1.
        """
        endings = {token for tag in self.protocol.endings() if (token := self.codec.tag(tag)) is not None}
        pivots = {self.codec.token(word) for word in self.task.pivots()}
        rows = []
        for call in episode.calls:
            row = call_row(episode, call)
            weights = pivot_weights(call.output, pivots=pivots, endings=endings, weight=self.pivot_weight)
            rows.append(Row(ids=row.ids, first=row.first, weights=weights, logprobs=()))
        return rows

    def bins(self, start: int, stop: int, length: int) -> Iterator[list[Row]]:
        """Packed rows of at most `length` tokens, shuffled within windows; rows longer than that are left
        out.
        """
        rng = random.Random(f"braid/bins/{self.seed}/{start}")
        for first in range(start, stop, _WINDOW):
            rows = [
                row
                for episode in self.episodes(first, min(first + _WINDOW, stop))
                for row in self.rows(episode)
            ]
            bins = pack_rows([row for row in rows if len(row) <= length], length)
            rng.shuffle(bins)
            yield from bins


def pivot_weights(
    output: Sequence[int], *, pivots: set[int], endings: set[int], weight: float
) -> tuple[float, ...]:
    """[T] `weight` for pivots, for the token right before an ending (the verdict that led to it), and from
    it on.

    Example (weight 3, "." a pivot, "found" an ending):
        9 * 4 36 . 10 / 2 5 / found 9 * 4
        1 1 1 1  3 1  1 1 1 3 3     3 3 3
    """
    weights = []
    ended = False
    for position, token in enumerate(output):
        before_ending = position + 1 < len(output) and output[position + 1] in endings
        ended = ended or token in endings
        weights.append(weight if ended or before_ending or token in pivots else 1.0)
    return tuple(weights)
