"""Training rows of supervised fine-tuning: one row for each call of an episode.

Episodes are rendered from a solver's searches (here) or recorded (`rl.imitation.recorded_episodes`).
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from data.episodes.trajectory import Episode, ThreadOutcome
from data.forests.forest import unique_tokens
from data.forests.rows import Row, call_row
from data.forests.split import first_fit, split_rows
from data.tasks.base import SolvedTask, Task
from data.tasks.problem import Problem
from data.tasks.sampler import ProblemSampler
from data.tasks.search_tree import SearchTree
from data.text.codec import Codec
from rl.imitation.tagged_rows import as_tagged, candidates
from rollout.demonstrate import demonstrate
from rollout.protocols.shared.base import ThinkingProtocol
from rollout.protocols.shared.tags import EOS, Tags

WINDOW = 512
"""Episodes packed into forests at once: enough to fill them, few enough to bound memory."""
_UNFIT = frozenset({ThreadOutcome.TRUNCATED, ThreadOutcome.MALFORMED})
"""Outcomes of threads that are not imitated, even when their episode succeeded."""


@dataclass(kw_only=True, slots=True)
class LeftOut:
    """Counts of what a stage does not imitate because of its length."""

    episodes: int = 0
    """Demonstrations that do not fit the protocol's token limits or the model's context."""
    of: int = 0
    """Demonstrations that were made."""
    calls: int = 0
    """Calls longer than a forest."""

    def __str__(self) -> str:
        parts = []
        if self.episodes:
            limits = "the protocol's token limits and model.max_length"
            parts.append(f"{self.episodes:,} of {self.of:,} demonstrations do not fit {limits}")
        if self.calls:
            parts.append(f"{self.calls:,} calls are longer than forest_tokens")
        return "; ".join(parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class RowSource(ABC):
    """Episodes, and the rows made of them; equal fields give equal rows on every rank."""

    task: Task
    protocol: ThinkingProtocol
    codec: Codec
    seed: int
    pivot_weight: float
    match_tags: bool = False
    """Whether the model pairs the tags and traces of an episode (`rl.imitation.tagged_rows`)."""
    left_out: "LeftOut" = field(default_factory=lambda: LeftOut(), compare=False)
    """What did not fit, counted while forests are made."""

    @abstractmethod
    def windows(self) -> Iterator[list[Episode]]:
        """All episodes, in lists that are packed together."""

    def rows(self, episode: Episode) -> list[Row]:
        """One row for each call that trains a token.

        Loss weight of a token: `pivot_weight` for results, answers and verdicts, 0 for what the protocol does
        not train, else 1.
        """
        tags = Tags(self.protocol.endings(), self.codec)
        words = set(self.task.pivots()) if isinstance(self.task, SolvedTask) else set[str]()
        rows = []
        for call in episode.calls:
            if not call.num_trained or episode.threads[call.thread].outcome in _UNFIT:
                continue
            row = call_row(episode, call)
            ending = next((mark.start for mark in tags.marks(call.output) if mark.tag != EOS), None)
            pivots = word_positions(self.codec.pieces(call.output), words)
            size = len(call.output)
            weights = pivot_weights(size, pivots=pivots, ending=ending, weight=self.pivot_weight)
            untrained = (0.0,) * (len(call.output) - call.num_trained)
            weights = (*weights[: call.num_trained], *untrained)
            rows.append(replace(row, weights=weights))
        return rows

    def forests(self, tokens: int) -> Iterator[list[Row]]:
        """Rows of each forest, in random order within a window.

        A forest has at most `tokens` distinct tokens; longer calls are left out. Rows of an episode stay
        together, because they share most of their tokens.
        """
        rng = random.Random(f"braid/forests/{self.seed}")
        for episodes in self.windows():
            parts = [part for episode in episodes for part in self._parts(episode, tokens)]
            rng.shuffle(parts)
            yield from first_fit(parts, tokens)

    def _parts(self, episode: Episode, tokens: int) -> list[list[Row]]:
        every = self.rows(episode)
        rows = [row for row in every if len(row) <= tokens]
        self.left_out.calls += len(every) - len(rows)
        if not self.match_tags:
            return split_rows(rows, tokens)
        tagged = [as_tagged(row, episode.id) for row in rows]
        return [list[Row](tagged)] if tagged and unique_tokens(candidates(tagged)) <= tokens else []


@dataclass(frozen=True, kw_only=True, slots=True)
class DemonstrationSource(RowSource):
    """Searches of the task's solver, written as episodes of the protocol."""

    problems: Sequence[Problem]
    max_length: int
    count: int
    """Number of searches; those that the task does not show, or that are too long, count too."""

    def windows(self) -> Iterator[list[Episode]]:
        for first in range(0, self.count, WINDOW):
            yield list(self.episodes(first, min(first + WINDOW, self.count)))

    def episodes(self, start: int, stop: int) -> Iterator[Episode]:
        """Demonstrations numbered `start` to `stop` (exclusive), without those not shown or too long."""
        sampler = ProblemSampler(len(self.problems), self.seed)
        for number in range(start, stop):
            rng = random.Random(f"braid/demonstrations/{self.seed}/{number}")
            problem = self.problems[sampler.problem_at(number)]
            tree = self.tree(problem, rng)
            if tree is None:
                continue
            episode = demonstrate(
                self.protocol,
                self.task.prompt(problem),
                tree,
                id=str(number),
                problem_id=problem.id,
                max_length=self.max_length,
            )
            self.left_out.of += 1
            if episode is None:
                self.left_out.episodes += 1
            else:
                yield episode

    def tree(self, problem: Problem, rng: random.Random) -> SearchTree | None:
        """What is demonstrated of a problem; None when the task does not show it."""
        assert isinstance(self.task, SolvedTask), "rl.config.crosscheck_source refuses others"
        tree = self.task.search(problem, rng)
        return tree if self.task.keep(tree, rng) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class GoldAnswers(DemonstrationSource):
    """Gold answers without a word before them, written as episodes of the protocol."""

    def tree(self, problem: Problem, rng: random.Random) -> SearchTree | None:
        """A search of no steps that arrives at the gold answer; None of a problem without one."""
        gold = self.task.gold(problem)
        return SearchTree(children=(), solution=gold[0]) if gold else None


def word_positions(pieces: Sequence[str], words: set[str]) -> set[int]:
    """Positions of the pieces that are one of these words, spaces around them left out."""
    return {position for position, piece in enumerate(pieces) if piece.strip() in words} if words else set()


def pivot_weights(size: int, *, pivots: set[int], ending: int | None, weight: float) -> tuple[float, ...]:
    """[T] Loss weights of a call's output: `weight` for the positions in `pivots`, for the token right before
    the first `ending` (the verdict that led to it), and for everything from there on; 1 for the rest.

    Example (weight 3, "." a pivot, "found" an ending):
        9 * 4 36 . 10 / 2 5 / found 9 * 4
        1 1 1 1  3 1  1 1 1 3 3     3 3 3
    """
    decided = size if ending is None else ending - 1
    return tuple(weight if place >= decided or place in pivots else 1.0 for place in range(size))
