"""Base classes of tasks, by what a task can do. All tasks: data.tasks.registry."""

import hashlib
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from data.params import Params
from data.tasks.problem import Problem
from data.tasks.search_tree import SearchTree
from data.text.prompt import Prompt

Split = Literal["train", "validation", "test"]


class Task(ABC):
    """A kind of problem. Methods are pure functions of their arguments.

    What a task can do besides is in its subclasses: `GeneratedTask` makes problems and knows their words,
    `SolvedTask` also solves them. Most tasks of a user's own are neither.
    """

    name: ClassVar[str]
    """Name of the task in recipes and in `Problem.task`."""
    Params: ClassVar[type[Params]]
    """Parameters that a recipe can set."""

    @abstractmethod
    def __init__(self, params: Any) -> None:
        """`params` is an instance of `Params`."""

    @abstractmethod
    def problems(self, split: Split, n: int, seed: int) -> list[Problem]:
        """The first n problems of a split in the order of `seed`: none twice, none in two splits.

        Raises:
            ConfigError: there are fewer than n.
        """

    @abstractmethod
    def prompt(self, problem: Problem) -> Prompt:
        """Text of the problem, which a framing lays out for the model."""

    @abstractmethod
    def check(self, problem: Problem, answer: str) -> bool:
        """Whether the answer is right; False when it is wrong or malformed.

        Raises:
            ConfigError: the problem itself is broken, so no answer can be checked.
        """

    def marks(self, problem: Problem, answer: str) -> float | None:
        """Share of full marks that an answer earns, 0 to 1: 1 exactly where `check` holds. None for an answer
        that cannot be read, which counts as none. Raises what `check` does.
        """
        return float(self.check(problem, answer))

    def gold(self, problem: Problem) -> tuple[str, ...]:
        """Accepted answers, for a verifier (rewards.verifiers); none where only `check` can tell."""
        return ()

    def fields(self, problem: Problem) -> Mapping[str, Any]:
        """What a verifier gets to know of the problem besides its prompt and gold answers (JSON values)."""
        return problem.fields

    def key(self, problem: Problem) -> str:
        """Identity of a problem: two with one key are the same. Held-out sets share no key with training."""
        return problem.id

    @abstractmethod
    def validate(self, problem: Problem) -> None:
        """Raises ConfigError when a user's own problem lacks or garbles a field."""


class GeneratedTask(Task):
    """A task that makes its own problems.

    Where `words_only` holds, all its text is words from a known list, separated by single spaces, so that a
    tokenizer can be built for it.
    """

    @property
    def words_only(self) -> bool:
        """Whether all text is words; otherwise it is free text, which takes a pretrained tokenizer."""
        return True

    @abstractmethod
    def longest_prompt(self) -> str:
        """A prompt with the most tokens that a generated one can have, in either way of writing numbers."""

    @abstractmethod
    def words(self) -> list[str]:
        """Words other than numbers in prompts, searches and answers (for a from-scratch tokenizer); [] when
        the text is not `words_only`.
        """

    @property
    @abstractmethod
    def largest_number(self) -> int:
        """Largest number that prompts, searches and right answers can contain; 0 when there are none."""


class SolvedTask(GeneratedTask):
    """A generated task with a solver, whose searches become demonstrations of any protocol."""

    @abstractmethod
    def search(self, problem: Problem, rng: random.Random) -> SearchTree:
        """Search of an imperfect solver, for demonstrations. All randomness is from `rng`."""

    @property
    def has_needs(self) -> bool:
        """Whether parts of a search can need each other's solutions, which not every protocol can pass on."""
        return False

    @property
    def names_nodes(self) -> bool:
        """Whether searches name their nodes and tell ways, as `spawn_join` with `dialect: apr` needs."""
        return False

    without_needs: ClassVar[str] = ""
    """Setting with which no part needs another, as `key: value`; "" where none ever does."""

    def pivots(self) -> list[str]:
        """Words that decide how a search goes on; supervised fine-tuning can weight them more."""
        return []

    def keep(self, tree: SearchTree, rng: random.Random) -> bool:
        """Whether a search is used as a demonstration. A task may leave out some of the failed ones."""
        return True


def split_of(key: str, *, validation_percent: int, test_percent: int) -> Split:
    """The split a problem belongs to, by its key alone: the same for every seed, machine and Python.

    The key's SHA-256 picks one of 100 buckets: the first `test_percent` are test, the next
    `validation_percent` are validation, the rest train.
    """
    bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % 100
    if bucket < test_percent:
        return "test"
    return "validation" if bucket < test_percent + validation_percent else "train"


class HeldOutParams(Params):
    """Shares of a generated task's problems that are never trained on."""

    validation_percent: int = Field(default=5, ge=0, le=50)
    """Share of all problems that is held out for validation."""
    test_percent: int = Field(default=5, ge=0, le=50)
    """Share of all problems that is held out for the final test."""

    @model_validator(mode="after")
    def _leave_some(self) -> Self:
        if self.validation_percent + self.test_percent >= 100:
            raise ValueError("validation_percent + test_percent must leave something to train on: below 100")
        return self

    def split_of(self, key: str) -> Split:
        """The split that the problem with this key belongs to."""
        return split_of(key, validation_percent=self.validation_percent, test_percent=self.test_percent)
