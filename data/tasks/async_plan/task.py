"""Asynchronous planning: steps take time and wait for others; any number of them can run at once.

Text (in words; with `text: story` in sentences, see data.tasks.async_plan.solver):
    prompt  "A = 3 B = 5 C = 2 after A B"    minutes of each step, and the steps that it waits for
    answer  "7"                              the shortest time in which all steps are done

It is the longest path through the graph of waits. Steps without a wait between them can be worked out at
once, the others need earlier results: a task for protocols that pass those on.
"""

import random
from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from data.errors import ConfigError
from data.steps.step import Range, StepLabel
from data.tasks.async_plan.labels import cut_steps, label_steps
from data.tasks.async_plan.plan import NAMES, Step, ends, fingerprint, parse_step
from data.tasks.async_plan.solver import WORDS, SolverParams, plan_text, solve
from data.tasks.base import HeldOutParams, Split
from data.tasks.labelled import StepLabelledTask
from data.tasks.problem import Problem
from data.tasks.search_tree import SearchTree
from data.text.prompt import Prompt


class AsyncPlanParams(SolverParams, HeldOutParams):
    """Size of the plans, and the settings of the solver."""

    steps_low: int = Field(default=3, ge=2, le=len(NAMES))
    """Fewest steps of a plan."""
    steps_high: int = Field(default=6, ge=2, le=len(NAMES))
    """Most steps of a plan; uniform."""
    minutes_low: int = Field(default=1, ge=1, le=9_999)
    """Shortest duration of a step."""
    minutes_high: int = Field(default=9, ge=1, le=9_999)
    """Longest duration of a step; uniform."""
    linked: float = Field(default=0.7, ge=0, le=1)
    """Share of the steps after the first that wait for earlier ones. With 0 none does, and every protocol can
    demonstrate the task.
    """
    waits: int = Field(default=2, ge=1, le=len(NAMES) - 1)
    """Most steps that one step waits for; uniform from 1."""

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for low, high in (("steps_low", "steps_high"), ("minutes_low", "minutes_high")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"{low} ({getattr(self, low)}) must not exceed {high} ({getattr(self, high)})"
                )
        return self


class AsyncPlan(StepLabelledTask):
    """The task of finding how long a plan takes."""

    name = "async_plan"
    Params = AsyncPlanParams
    without_needs = "task.params.linked: 0"

    def __init__(self, params: AsyncPlanParams | None = None) -> None:
        self.params = params or AsyncPlanParams()

    @property
    def largest_number(self) -> int:
        """Minutes of a plan of the most and longest steps, one after the other."""
        return self.params.steps_high * self.params.minutes_high

    @property
    def has_needs(self) -> bool:
        return self.params.linked > 0

    @property
    def words_only(self) -> bool:
        return self.params.text == "words"

    def words(self) -> list[str]:
        return list(WORDS) if self.words_only else []

    def problems(self, split: Split, n: int, seed: int) -> list[Problem]:
        params, drawn = self.params, dict[str, Problem]()
        rng = random.Random(f"async_plan/{split}/{seed}")
        limit = 5_000 + 200 * n
        for _ in range(limit):
            if len(drawn) >= n:
                return list(drawn.values())
            steps = self._draw(rng)
            key = fingerprint(steps)
            if split == params.split_of(key):
                drawn.setdefault(key, _make_problem(steps))
        remedy = "widen the ranges, or ask for fewer"
        if split != "train":
            remedy = f"raise {split}_percent, {remedy}"
        raise ConfigError(
            f"async_plan: the {split} split gave {len(drawn)} plans in {limit} draws with these parameters, "
            f"{n} were asked for; {remedy}"
        )

    def prompt(self, problem: Problem) -> Prompt:
        return Prompt(plan_text(self._read(problem), self.params.text))

    def longest_prompt(self) -> str:
        """The most steps, each waiting for as many as it can."""
        params = self.params
        steps = [
            Step(
                minutes=params.minutes_high,
                needs=tuple(range(min(place, params.waits))) if params.linked else (),
            )
            for place in range(params.steps_high)
        ]
        return plan_text(steps, params.text)

    def search(self, problem: Problem, rng: random.Random) -> SearchTree:
        return solve(self._read(problem), self.params, rng)

    def check(self, problem: Problem, answer: str) -> bool:
        return answer.split() == [str(max(ends(self._read(problem))))]

    def step_ranges(self, segment: str) -> list[Range]:
        return cut_steps(segment, self.params.text)

    def label_steps(
        self, problem: Problem, before: Sequence[str], steps: Sequence[str]
    ) -> tuple[StepLabel, ...]:
        return label_steps(self._read(problem), self.params.text, before, steps)

    def key(self, problem: Problem) -> str:
        """The steps in any order and under any names."""
        return fingerprint(self._read(problem))

    def validate(self, problem: Problem) -> None:
        """Task.validate; there may be fewer or more steps than the ranges allow."""
        steps = self._read(problem)
        largest = max(*ends(steps), *(step.minutes for step in steps))
        if largest > self.largest_number:
            raise ConfigError(
                f"problem {problem.id!r}: takes {largest} minutes, above steps_high * minutes_high = "
                f"{self.largest_number}"
            )
        if not self.has_needs and any(step.needs for step in steps):
            raise ConfigError(f"problem {problem.id!r}: has steps that wait; set linked above 0")

    def _read(self, problem: Problem) -> list[Step]:
        """The steps of a problem, or ConfigError with what is wrong with them."""
        if problem.task != self.name:
            raise ConfigError(f"problem {problem.id!r}: belongs to task {problem.task!r}, not {self.name!r}")
        texts = problem.fields.get("steps")
        if (
            not isinstance(texts, list | tuple)
            or not 2 <= len(texts) <= len(NAMES)
            or not all(isinstance(text, str) for text in texts)
        ):
            raise ConfigError(
                f"problem {problem.id!r}: `steps` must be 2 to {len(NAMES)} texts, found {texts!r}"
            )
        steps: list[Step] = []
        for place, text in enumerate(texts):
            try:
                steps.append(parse_step(text, place))
            except ValueError as error:
                raise ConfigError(
                    f"problem {problem.id!r}: step {NAMES[place]} ({text!r}) {error}"
                ) from error
        return steps

    def _draw(self, rng: random.Random) -> list[Step]:
        params, steps = self.params, list[Step]()
        for place in range(rng.randint(params.steps_low, params.steps_high)):
            needs: list[int] = []
            if place and rng.random() < params.linked:
                needs = rng.sample(range(place), rng.randint(1, min(params.waits, place)))
            minutes = rng.randint(params.minutes_low, params.minutes_high)
            steps.append(Step(minutes=minutes, needs=tuple(sorted(needs))))
        return steps


def _make_problem(steps: list[Step]) -> Problem:
    texts = [step.text for step in steps]
    return Problem(
        "async-plan-" + ",".join(text.replace(" ", "") for text in texts), "async_plan", {"steps": texts}
    )
