"""Countdown: make the target from the numbers, each used exactly once, with + - * /.

Text (in words; with `text: apr` in the lines of data.tasks.countdown_apr):
    prompt  "44 10 9 4 2"              the target, then the numbers, largest first
    answer  "9 * 4 10 - 2 36 + 8"      one triple per operation; each takes any two values still there, puts
                                       its result back, and the last one must leave the target alone

The rules of arithmetic are in data.tasks.countdown_arithmetic, the text of a search in
data.tasks.countdown_solver.
Two settings matter: the defaults (small, for two cores) and APR's own (1..99, targets 10..100, cap 10000).
"""

import random
import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations_with_replacement
from math import comb, factorial, log, prod
from typing import Self, TypeGuard

from pydantic import Field, model_validator

from data.errors import ConfigError
from data.steps.step import Range, StepLabel
from data.tasks.base import HeldOutParams, Split
from data.tasks.countdown_apr import state_text, triples
from data.tasks.countdown_apr_labels import cut_line, label_lines
from data.tasks.countdown_arithmetic import OPERATIONS, apply, reachable
from data.tasks.countdown_goal import Goal
from data.tasks.countdown_labels import cut_words, label_words
from data.tasks.countdown_solver import FORBIDDEN, MISS, SolverParams, solve
from data.tasks.labelled import StepLabelledTask
from data.tasks.problem import Problem
from data.tasks.search_tree import SearchTree
from data.text.prompt import Prompt

_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_LARGEST_CAP = 99_999
_ENUMERABLE = 5_000
"""Most number sets for which a split is listed whole; with more, problems are drawn until enough differ."""


class CountdownParams(SolverParams, HeldOutParams):
    """Ranges of the problems, and the settings of the solver. The defaults are the small setting."""

    operands: int = Field(default=4, ge=2, le=6)
    """Number of numbers in a problem."""
    low: int = Field(default=1, ge=1, le=_LARGEST_CAP)
    """Smallest number that can be drawn."""
    high: int = Field(default=10, ge=2, le=_LARGEST_CAP)
    """Largest number that can be drawn; draws are uniform."""
    target_low: int = Field(default=10, ge=2, le=_LARGEST_CAP)
    """Smallest target of a problem."""
    target_high: int = Field(default=40, ge=2, le=_LARGEST_CAP)
    """Largest target; uniform over what the numbers reach, the numbers themselves excepted."""
    cap: int = Field(default=60, ge=2, le=_LARGEST_CAP)
    """Largest value an operation may give."""

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) must not exceed high ({self.high})")
        if self.target_low > self.target_high:
            raise ValueError(
                f"target_low ({self.target_low}) must not exceed target_high ({self.target_high})"
            )
        if max(self.high, self.target_high) > self.cap:
            raise ValueError(
                f"cap ({self.cap}) must be at least high ({self.high}) and target_high ({self.target_high})"
            )
        return self


class Countdown(StepLabelledTask):
    """The task of making a target from numbers with + - * /."""

    name = "countdown"
    Params = CountdownParams

    def __init__(self, params: CountdownParams | None = None) -> None:
        self.params = params or CountdownParams()

    @property
    def largest_number(self) -> int:
        """The cap: larger values are written as X."""
        return self.params.cap

    @property
    def words_only(self) -> bool:
        return self.params.text == "words"

    @property
    def names_nodes(self) -> bool:
        return self.params.text == "apr"

    def words(self) -> list[str]:
        return [*OPERATIONS, FORBIDDEN, MISS] if self.words_only else []

    def pivots(self) -> list[str]:
        """The mark of a miss, after which the search goes on."""
        return [MISS] if self.words_only else []

    def problems(self, split: Split, n: int, seed: int) -> list[Problem]:
        """Task.problems; numbers are independent and uniform, the target uniform over what they reach."""
        rng = random.Random(f"countdown/{split}/{seed}")
        params = self.params
        sets = comb(params.high - params.low + params.operands, params.operands)
        drawn = self._listed(split, n, rng) if sets <= _ENUMERABLE else self._sampled(split, n, rng)
        return [_make_problem(numbers, target) for numbers, target in drawn]

    def prompt(self, problem: Problem) -> Prompt:
        numbers, target = self._read(problem)
        return Prompt(self._text(target, sorted(numbers, reverse=True)))

    def longest_prompt(self) -> str:
        """The largest target and numbers."""
        return self._text(self.params.target_high, [self.params.high] * self.params.operands)

    def search(self, problem: Problem, rng: random.Random) -> SearchTree:
        numbers, target = self._read(problem)
        return solve(sorted(numbers, reverse=True), target, self.params.cap, self.params, rng)

    def keep(self, tree: SearchTree, rng: random.Random) -> bool:
        """Solved searches always, failed ones with probability `keep_failed`."""
        return tree.solution is not None or rng.random() < self.params.keep_failed

    def check(self, problem: Problem, answer: str) -> bool:
        numbers, target = self._read(problem)
        words = answer.split() if self.words_only else triples(answer, self.params.cap)
        if len(words) != 3 * (len(numbers) - 1):
            return False
        available = Counter(numbers)
        for left, op, right in zip(words[0::3], words[1::3], words[2::3], strict=True):
            if op not in OPERATIONS or not (_NUMBER.fullmatch(left) and _NUMBER.fullmatch(right)):
                return False
            operands = Counter((int(left), int(right)))
            value = apply(int(left), op, int(right), self.params.cap)
            if value is None or not operands <= available:
                return False
            available = available - operands + Counter((value,))
        return list(available.elements()) == [target]

    def step_ranges(self, segment: str) -> list[Range]:
        return cut_words(segment) if self.words_only else cut_line(segment)

    def label_steps(
        self, problem: Problem, before: Sequence[str], steps: Sequence[str]
    ) -> tuple[StepLabel, ...]:
        numbers, target = self._read(problem)
        goal = Goal(numbers=numbers, target=target, cap=self.params.cap)
        return (label_words if self.words_only else label_lines)(goal, before, steps)

    def key(self, problem: Problem) -> str:
        """Sorted numbers and target."""
        return _key(*self._read(problem))

    def validate(self, problem: Problem) -> None:
        """Task.validate; there may be fewer or more numbers than `operands`, but none above the cap."""
        numbers, target = self._read(problem)
        if max(*numbers, target) > self.params.cap:
            raise ConfigError(
                f"problem {problem.id!r}: holds a number above the task's cap of {self.params.cap}"
            )

    def _text(self, target: int, numbers: list[int]) -> str:
        """Text of a problem in the style of the parameters."""
        if self.words_only:
            return " ".join(map(str, (target, *numbers)))
        return state_text("0", target, numbers, ())

    def _read(self, problem: Problem) -> tuple[tuple[int, ...], int]:
        """Numbers and target of a problem, or ConfigError with what is wrong with them."""
        if problem.task != self.name:
            raise ConfigError(f"problem {problem.id!r}: belongs to task {problem.task!r}, not {self.name!r}")
        numbers, target = problem.fields.get("numbers"), problem.fields.get("target")
        if (
            not isinstance(numbers, list | tuple)
            or not 2 <= len(numbers) <= 6
            or not all(map(_positive, numbers))
        ):
            raise ConfigError(
                f"problem {problem.id!r}: `numbers` must be 2 to 6 positive integers, found {numbers!r}"
            )
        if not _positive(target) or target < 2:
            raise ConfigError(
                f"problem {problem.id!r}: `target` must be an integer of at least 2, found {target!r}"
            )
        return tuple(numbers), target

    def _targets(self, numbers: tuple[int, ...]) -> list[int]:
        """Targets a problem with these numbers may have, ascending."""
        params = self.params
        values = reachable(numbers, params.cap)
        return sorted(v for v in values if params.target_low <= v <= params.target_high and v not in numbers)

    def _in_split(self, numbers: tuple[int, ...], target: int, split: Split) -> bool:
        return self.params.split_of(_key(numbers, target)) == split

    def _listed(self, split: Split, n: int, rng: random.Random) -> list[tuple[tuple[int, ...], int]]:
        """The first n of the whole split, ordered as drawing one after the other and skipping repeats would.

        Sorting by -log(U) / weight is such a draw without replacement (Efraimidis and Spirakis 2006). A pair
        weighs as much as there are ways to draw its numbers, shared by the targets they reach.
        """
        params = self.params
        ranked: list[tuple[float, tuple[int, ...], int]] = []
        for numbers in combinations_with_replacement(range(params.high, params.low - 1, -1), params.operands):
            targets = self._targets(numbers)
            ways = factorial(params.operands) / prod(map(factorial, Counter(numbers).values()))
            for target in targets:
                if self._in_split(numbers, target, split):
                    weight = ways / len(targets)
                    ranked.append((-log(1.0 - rng.random()) / weight, numbers, target))
        if len(ranked) < n:
            raise self._too_few(split, n, f"holds {len(ranked)} problems")
        return [(numbers, target) for _, numbers, target in sorted(ranked)[:n]]

    def _sampled(self, split: Split, n: int, rng: random.Random) -> list[tuple[tuple[int, ...], int]]:
        params = self.params
        drawn: dict[tuple[tuple[int, ...], int], None] = {}
        limit = 20_000 + 1_000 * n
        for _ in range(limit):
            if len(drawn) >= n:
                break
            numbers = tuple(
                sorted((rng.randint(params.low, params.high) for _ in range(params.operands)), reverse=True)
            )
            targets = self._targets(numbers)
            if not targets:
                continue
            target = rng.choice(targets)
            if self._in_split(numbers, target, split):
                drawn[numbers, target] = None
        if len(drawn) < n:
            raise self._too_few(split, n, f"gave {len(drawn)} problems in {limit} draws")
        return list(drawn)

    def _too_few(self, split: Split, n: int, found: str) -> ConfigError:
        remedy = "widen low..high or target_low..target_high, or ask for fewer"
        if split != "train":
            remedy = f"raise {split}_percent, {remedy}"
        return ConfigError(
            f"countdown: the {split} split {found} with these parameters, {n} were asked for; {remedy}"
        )


def _key(numbers: Sequence[int], target: int) -> str:
    return f"{' '.join(map(str, sorted(numbers, reverse=True)))} -> {target}"


def _make_problem(numbers: tuple[int, ...], target: int) -> Problem:
    name = f"countdown-{'-'.join(map(str, numbers))}-to-{target}"
    return Problem(name, "countdown", {"numbers": list(numbers), "target": target})


def _positive(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
