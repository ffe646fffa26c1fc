"""Reasoning gym: questions of one data set of the library `reasoning-gym`, or of a weighted mix.

    prompt  the library's question, and behind it the recipe's `suffix`
    answer  whatever the library's scorer accepts; `gold` is one right answer

A problem has the fields `dataset`, `config` (JSON), `question`, `gold` and `metadata` (`typed_json` text):
all the scorer needs, so a file of problems can be scored anywhere. Scores lie between 0 and 1; only 1 counts.
"""

import json
import random
from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from data.errors import ConfigError
from data.params import Params
from data.tasks.base import HeldOutParams, Split, Task
from data.tasks.problem import Problem
from data.tasks.reasoning_gym import library, typed_json
from data.text.prompt import Prompt

_SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_PATIENCE = 4_000
"""Draws in a row without a new problem after which a split is taken to hold no more."""
_FIELDS = ("dataset", "config", "question", "gold", "metadata")


class GymDataset(Params):
    """One data set of the mix."""

    name: str
    """Name of the data set in the library, for example `chain_sum`."""
    weight: float = Field(default=1.0, gt=0, le=1e6)
    """Share of the problems drawn from it, relative to the other weights."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Difficulty: the data set's own settings, for example {min_terms: 2, max_terms: 3}."""

    @model_validator(mode="after")
    def _settings(self) -> Self:
        library.check_settings(self.name, self.config)
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


class ReasoningGymParams(HeldOutParams):
    """The data sets, and the shares of the splits."""

    datasets: tuple[GymDataset, ...] = Field(min_length=1)
    """One data set, or several to be mixed."""
    suffix: str = ""
    """Text behind every question, for example how the answer should be given."""
    validation_percent: int = Field(default=10, ge=0, le=50)
    """Share of all questions that is held out for validation. A held-out split of n questions takes
    n * 100 / percent draws.
    """
    test_percent: int = Field(default=10, ge=0, le=50)
    """Share of all questions that is held out for the final test."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        names = [dataset.name for dataset in self.datasets]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"data set {name!r} is there twice; give it one entry")
        return self


class ReasoningGym(Task):
    """The task of answering questions of the library `reasoning-gym`."""

    name = "reasoning_gym"
    Params = ReasoningGymParams

    def __init__(self, params: ReasoningGymParams) -> None:
        self.params = params

    def problems(self, split: Split, n: int, seed: int) -> list[Problem]:
        """Task.problems. Every question belongs to one split by its text, and each split draws from indices
        of its own: no split can hold another one's question, whatever the numbers asked for.
        """
        found: dict[str, Problem] = {}
        fruitless = 0
        for problem in self._draw(split, seed) if n else ():
            question = problem.fields["question"]
            if question in found or self._split_of(question) != split:
                fruitless += 1
            else:
                found[question] = problem
                fruitless = 0
            if len(found) == n:
                return list(found.values())
            if fruitless == _PATIENCE:
                break
        if not n:
            return []
        remedy = "widen the settings of its data sets, add others, or ask for fewer"
        if split != "train":
            remedy = f"raise {split}_percent, {remedy}"
        raise ConfigError(
            f"reasoning_gym: the {split} split gave {len(found)} different questions and then none in "
            f"{_PATIENCE} draws, {n} were asked for; {remedy}"
        )

    def prompt(self, problem: Problem) -> Prompt:
        question = self._read(problem)["question"]
        return Prompt(f"{question}\n\n{self.params.suffix}" if self.params.suffix else question)

    def check(self, problem: Problem, answer: str) -> bool:
        """Whether the answer is the gold text itself. Other right answers need the verifier `reasoning_gym`,
        which runs the library's scorer in a process that can be killed.
        """
        return answer.strip() == self._read(problem)["gold"].strip()

    def gold(self, problem: Problem) -> tuple[str, ...]:
        return (self._read(problem)["gold"],)

    def key(self, problem: Problem) -> str:
        """Text of the question, with its data set."""
        fields = self._read(problem)
        return f"{fields['dataset']}: {fields['question']}"

    def validate(self, problem: Problem) -> None:
        read_item(self._read(problem), problem.id)

    def _read(self, problem: Problem) -> dict[str, str]:
        """The problem's fields, or ConfigError with what is wrong with them."""
        if problem.task != self.name:
            raise ConfigError(f"problem {problem.id!r}: belongs to task {problem.task!r}, not {self.name!r}")
        for name in _FIELDS:
            value = problem.fields.get(name)
            if not isinstance(value, str) or not value:
                raise ConfigError(f"problem {problem.id!r}: `{name}` must be a text, found {value!r}")
        return {name: problem.fields[name] for name in _FIELDS}

    def _split_of(self, question: str) -> Split:
        return self.params.split_of(question)

    def _draw(self, split: Split, seed: int) -> Iterator[Problem]:
        """Problems without end. The indices of split s are s, s + 3, s + 6, ..., from a start by the seed."""
        rng = random.Random(f"reasoning_gym/{split}/{seed}")
        datasets = self.params.datasets
        weights = [dataset.weight for dataset in datasets]
        counts = {dataset.name: rng.randrange(1_000) if seed else 0 for dataset in datasets}
        while True:
            dataset = rng.choices(datasets, weights)[0]
            index = len(_SPLITS) * counts[dataset.name] + _SPLITS.index(split)
            counts[dataset.name] += 1
            try:
                item = library.make_item(dataset.name, dataset.config, index)
            except ValueError as error:
                raise ConfigError(f"reasoning_gym: {error}; change its settings, or ask for fewer") from error
            if not item.gold:
                continue  # scorers take an empty answer for none
            fields = {
                "dataset": dataset.name,
                "config": json.dumps(dataset.config),
                "question": item.question,
                "gold": item.gold,
                "metadata": typed_json.write(dict(item.metadata)),
            }
            yield Problem(f"{dataset.name}-{index}", self.name, fields)


def read_item(fields: Mapping[str, Any], owner: str) -> tuple[dict[str, Any], library.Item]:
    """The settings of its data set and the library's item, from a problem's fields: what the scorer needs.

    Raises:
        ConfigError: the fields are not those of this task; `owner` names the problem.
    """
    read: dict[str, dict[str, Any]] = {}
    for name, reader in (("config", json.loads), ("metadata", typed_json.read)):
        try:
            read[name] = reader(fields[name])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"problem {owner!r}: `{name}` cannot be read ({error})") from error
        if not isinstance(read[name], dict):
            raise ConfigError(f"problem {owner!r}: `{name}` must be an object, found {fields[name]!r}")
    item = library.Item(question=fields["question"], gold=fields["gold"], metadata=read["metadata"])
    return read["config"], item
