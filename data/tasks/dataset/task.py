"""The task: rows of a user's own, compared with gold answers by a verifier."""

from collections.abc import Mapping, Sequence
from typing import Any

from data.errors import ConfigError
from data.tasks.base import Split, Task
from data.tasks.dataset.lengths import LengthLimit, apply_length_policy
from data.tasks.dataset.loading import NAME, Loaded, load_splits, normalised, prompt_of
from data.tasks.dataset.params import DatasetParams
from data.tasks.dataset.sources import ReadSource, read_source
from data.tasks.problem import Problem
from data.text.prompt import Prompt


class Dataset(Task):
    """Problems from rows: a prompt (text or conversation), gold answers, and the row's own columns."""

    name = NAME
    Params = DatasetParams

    def __init__(self, params: DatasetParams) -> None:
        """`params` names the sources."""
        self.params = params

    def load(self, limits: Sequence[LengthLimit] = (), read: ReadSource = read_source) -> dict[Split, Loaded]:
        """All splits with their counts; prompts are measured against each of `limits`.

        Raises:
            ConfigError: see `load_splits` and `apply_length_policy`.
        """
        splits = load_splits(self.params, read)
        for loaded in splits.values():
            for limit in limits:
                apply_length_policy(loaded, self.params, limit)
            if not loaded.problems:
                raise ConfigError(f"{loaded.source}: no problem is left ({loaded}); give it more rows")
        return splits

    def problems(self, split: Split, n: int, seed: int) -> list[Problem]:
        """The first n problems of a split, in the order of the rows whatever the seed."""
        if not self.params.has(split):
            raise ConfigError(
                f"task dataset: has no {split} split; give task.params.{split} or task.params.{split}_percent"
            )
        problems = [placed.problem for placed in self.load()[split].problems]
        if len(problems) < n:
            raise ConfigError(f"task dataset: the {split} split has {len(problems)} problems, not {n}")
        return problems[:n]

    def prompt(self, problem: Problem) -> Prompt:
        """The prompt that the row gives."""
        return prompt_of(problem)

    def check(self, problem: Problem, answer: str) -> bool:
        """Whether the answer is one of the gold answers, letter by letter; verifiers know better."""
        return answer.strip() in problem.fields["gold"]

    def gold(self, problem: Problem) -> tuple[str, ...]:
        """The row's accepted answers."""
        return tuple(problem.fields["gold"])

    def fields(self, problem: Problem) -> Mapping[str, Any]:
        """The row's columns, and what its layout made of them (`tests` of a program)."""
        columns: Mapping[str, Any] = problem.fields["fields"]
        return columns

    def key(self, problem: Problem) -> str:
        """The prompt's normalised text."""
        return normalised(prompt_of(problem))

    def validate(self, problem: Problem) -> None:
        """Problems are made from rows, which were checked then."""
        if problem.task != self.name or not {"prompt", "history", "gold", "fields"} <= problem.fields.keys():
            raise ConfigError(
                f"problem {problem.id!r}: is not one of task {self.name!r}; name its file in task.params"
            )
