"""Parts: several small sums that can be done at once or, with `dependencies`, build on each other.

Text (in words; with `text: questions` as a chat model expects it, see data.tasks.parts_text):
    prompt  "A = 3 * 4 - 5 B = 2 + 9 C = A + 4"    chains, read from the left without precedence
    answer  "29"                                   the sum of all parts: none of them can be left out

Every value on the way, and the sum, lies in 1..cap, so each has a token of its own in a small tokenizer. The
rules of arithmetic are in data.tasks.parts_arithmetic, the text of a search in data.tasks.parts_solver.
"""

import random
from collections.abc import Sequence
from itertools import chain as joined
from typing import Literal, Self

from pydantic import Field, model_validator

from data.errors import ConfigError
from data.steps.step import Range, StepLabel
from data.tasks.base import HeldOutParams, Split
from data.tasks.labelled import StepLabelledTask
from data.tasks.parts_arithmetic import (
    EQUALS,
    NAMES,
    OPERATIONS,
    Chain,
    as_numbers,
    expanded,
    parse_chain,
    running,
)
from data.tasks.parts_labels import cut_steps, label_steps
from data.tasks.parts_solver import SolverParams, solve
from data.tasks.parts_text import prompt_text
from data.tasks.problem import Problem
from data.tasks.search_tree import SearchTree
from data.text.prompt import Prompt

_LARGEST_CAP = 99_999


class PartsParams(SolverParams, HeldOutParams):
    """Ranges of the problems, and the settings of the solver. The defaults are for a tiny model."""

    parts_low: int = Field(default=2, ge=2, le=len(NAMES))
    """Fewest parts of a problem."""
    parts_high: int = Field(default=4, ge=2, le=len(NAMES))
    """Most parts of a problem; uniform before problems whose sum exceeds the cap are left out."""
    steps_low: int = Field(default=1, ge=1, le=16)
    """Fewest operations of a part."""
    steps_high: int = Field(default=3, ge=1, le=16)
    """Most operations of a part; uniform."""
    low: int = Field(default=1, ge=1, le=_LARGEST_CAP)
    """Smallest number that can be drawn."""
    high: int = Field(default=9, ge=1, le=_LARGEST_CAP)
    """Largest number that can be drawn; uniform."""
    cap: int = Field(default=60, ge=2, le=_LARGEST_CAP)
    """Largest value on the way, and largest sum."""
    operations: tuple[Literal["+", "-", "*"], ...] = ("+", "-", "*")
    """Operations that are drawn, each once here."""
    dependencies: bool = False
    """Whether parts may use the results of earlier ones."""
    dependent: float = Field(default=0.5, gt=0, le=1)
    """With `dependencies`, the share of parts after the first that use one earlier result, or two."""

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for low, high in (("parts_low", "parts_high"), ("steps_low", "steps_high"), ("low", "high")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"{low} ({getattr(self, low)}) must not exceed {high} ({getattr(self, high)})"
                )
        if self.high > self.cap:
            raise ValueError(f"cap ({self.cap}) must be at least high ({self.high})")
        if not self.operations or len(set(self.operations)) < len(self.operations):
            raise ValueError("operations must name at least one operation, and none twice")
        if self.text == "questions" and self.dependencies:
            raise ValueError("text: questions has no names for other parts' results; set dependencies: false")
        return self


class Parts(StepLabelledTask):
    """The task of adding up several chains of arithmetic."""

    name = "parts"
    Params = PartsParams
    without_needs = "task.params.dependencies: false"

    def __init__(self, params: PartsParams | None = None) -> None:
        self.params = params or PartsParams()

    @property
    def largest_number(self) -> int:
        return self.params.cap

    @property
    def has_needs(self) -> bool:
        return self.params.dependencies

    @property
    def words_only(self) -> bool:
        return self.params.text == "words"

    def words(self) -> list[str]:
        return [*OPERATIONS, EQUALS, *NAMES] if self.words_only else []

    def problems(self, split: Split, n: int, seed: int) -> list[Problem]:
        rng = random.Random(f"parts/{split}/{seed}")
        params, drawn = self.params, dict[str, Problem]()
        limit = 20_000 + 1_000 * n
        for _ in range(limit):
            if len(drawn) >= n:
                return list(drawn.values())
            chains = self._draw(rng)
            if chains is None:
                continue
            key = _key(chains)
            if params.split_of(key) == split:
                drawn.setdefault(key, _make_problem(chains))
        remedy = "widen the ranges, raise cap, or ask for fewer"
        if split != "train":
            remedy = f"raise {split}_percent, {remedy}"
        raise ConfigError(
            f"parts: the {split} split gave {len(drawn)} problems in {limit} draws with these parameters, "
            f"{n} were asked for; {remedy}"
        )

    def prompt(self, problem: Problem) -> Prompt:
        return Prompt(prompt_text(self._read(problem)[0], self.params.text))

    def longest_prompt(self) -> str:
        """Uses numbers everywhere, which take at least as many tokens as names, and the most brackets."""
        params = self.params
        # A bracket takes a product of a sum: every second operation.
        pair = sorted(params.operations, key="-+*".index)[-2:]
        operations = tuple(pair[place % len(pair)] for place in range(params.steps_high))
        chain = Chain(operands=(params.high,) * (params.steps_high + 1), operations=operations)
        return prompt_text((chain,) * params.parts_high, params.text)

    def search(self, problem: Problem, rng: random.Random) -> SearchTree:
        return solve(self._read(problem)[0], self.params, rng)

    def check(self, problem: Problem, answer: str) -> bool:
        return answer.split() == list(self.gold(problem))

    def gold(self, problem: Problem) -> tuple[str, ...]:
        return (str(sum(part[-1] for part in self._read(problem)[1])),)

    def step_ranges(self, segment: str) -> list[Range]:
        return cut_steps(segment, self.params.text)

    def label_steps(
        self, problem: Problem, before: Sequence[str], steps: Sequence[str]
    ) -> tuple[StepLabel, ...]:
        return label_steps(self._read(problem)[0], self.params.text, before, steps)

    def key(self, problem: Problem) -> str:
        """The parts in any order and under any names."""
        return _key(self._read(problem)[0])

    def validate(self, problem: Problem) -> None:
        """Task.validate; parts and steps may be fewer or more than the ranges allow."""
        chains, values = self._read(problem)
        written = [number for chain in chains for number in chain.operands if isinstance(number, int)]
        largest = max(*joined(*values), *written, sum(part[-1] for part in values))
        if largest > self.params.cap:
            raise ConfigError(
                f"problem {problem.id!r}: leads to {largest}, above the task's cap of {self.params.cap}"
            )
        if not self.params.dependencies and any(chain.needs for chain in chains):
            raise ConfigError(
                f"problem {problem.id!r}: has a part that uses another one's result; set dependencies: true"
            )

    def _read(self, problem: Problem) -> tuple[tuple[Chain, ...], list[tuple[int, ...]]]:
        """The parts of a problem, and the values after each of their operations.

        Raises ConfigError with what is wrong with them.
        """
        if problem.task != self.name:
            raise ConfigError(f"problem {problem.id!r}: belongs to task {problem.task!r}, not {self.name!r}")
        texts = problem.fields.get("parts")
        if (
            not isinstance(texts, list | tuple)
            or not 2 <= len(texts) <= len(NAMES)
            or not all(isinstance(text, str) for text in texts)
        ):
            raise ConfigError(
                f"problem {problem.id!r}: `parts` must be 2 to {len(NAMES)} texts, found {texts!r}"
            )
        chains: list[Chain] = []
        values: list[tuple[int, ...]] = []
        for place, text in enumerate(texts):
            try:
                chains.append(parse_chain(text, place))
            except ValueError as error:
                raise ConfigError(
                    f"problem {problem.id!r}: part {NAMES[place]} ({text!r}) {error}"
                ) from error
            values.append(_run(chains[-1], [part[-1] for part in values]))
            if min(values[-1]) < 1:
                raise ConfigError(
                    f"problem {problem.id!r}: part {NAMES[place]} ({text!r}) leads to {min(values[-1])}, "
                    "but every value must be at least 1"
                )
        return tuple(chains), values

    def _draw(self, rng: random.Random) -> tuple[Chain, ...] | None:
        """A random problem, or None when the draw led above the cap or to values below 1."""
        chains: list[Chain] = []
        results: list[int] = []
        for _ in range(rng.randint(self.params.parts_low, self.params.parts_high)):
            chain = self._draw_chain(rng, results)
            if chain is None:
                return None
            chains.append(chain)
            results.append(_run(chain, results)[-1])
        return tuple(chains) if sum(results) <= self.params.cap else None

    def _draw_chain(self, rng: random.Random, results: list[int]) -> Chain | None:
        """Numbers are uniform, operations uniform over those that stay in 1..cap. Earlier results come first
        in a chain.
        """
        params = self.params
        operands: list[int | str] = []
        if params.dependencies and results and rng.random() < params.dependent:
            places = rng.sample(range(len(results)), rng.randint(1, min(2, len(results))))
            operands = [NAMES[place] for place in places]
        steps = rng.randint(params.steps_low, params.steps_high)
        operands += [rng.randint(params.low, params.high) for _ in range(steps + 1 - len(operands))]
        numbers = as_numbers(operands, results)
        value, operations = numbers[0], list[str]()
        for number in numbers[1:]:
            fitting = [
                op
                for op, apply in OPERATIONS.items()
                if op in params.operations and 1 <= apply(value, number) <= params.cap
            ]
            if not fitting:
                return None
            operations.append(rng.choice(fitting))
            value = OPERATIONS[operations[-1]](value, number)
        return Chain(operands=tuple(operands), operations=tuple(operations))


def _run(chain: Chain, results: list[int]) -> tuple[int, ...]:
    return running(as_numbers(chain.operands, results), chain.operations)


def _key(chains: tuple[Chain, ...]) -> str:
    return " ; ".join(sorted(expanded(chains)))


def _make_problem(chains: tuple[Chain, ...]) -> Problem:
    texts = [chain.text for chain in chains]
    return Problem("parts-" + ",".join(text.replace(" ", "") for text in texts), "parts", {"parts": texts})
