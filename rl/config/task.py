"""Section `task`: name, parameters, and the source of the problems."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from data.params import CONTENT, Params
from data.registered import Registered, by_name
from data.tasks.async_plan.task import AsyncPlanParams
from data.tasks.base import Split
from data.tasks.countdown import CountdownParams
from data.tasks.dataset.params import DatasetParams
from data.tasks.judge.task import JudgeParams
from data.tasks.parts import PartsParams
from data.tasks.reasoning_gym.task import ReasoningGymParams
from data.tasks.registry import TASKS
from data.tasks.sudoku.task import SudokuParams
from rewards.verifiers.reasoning_gym import ReasoningGymParams as ReasoningGymVerifierParams
from rewards.verifiers.registry import VerifierConfig

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class TaskFiles(Params):
    """Problems from files (`data.tasks.rows`) instead of the generator. A missing split is generated."""

    train: Path | None = Field(default=None, json_schema_extra=CONTENT)
    """File of training problems, relative to the recipe."""
    validation: Path | None = Field(default=None, json_schema_extra=CONTENT)
    """File of validation problems, used to make choices."""
    test: Path | None = Field(default=None, json_schema_extra=CONTENT)
    """File of test problems, used by the final evaluation only."""


class TaskSection(Params):
    """Keys of every task."""

    name: str
    """Name of the task."""
    params: Params
    """Settings of the task."""
    verifier: VerifierConfig | None = None
    """Verifier of the answers, by its name or with its keys; null: the task's own check."""

    @property
    def is_shuffled(self) -> bool:
        """Whether every epoch of training has an order of its own."""
        return True


class GeneratedTaskConfig(TaskSection):
    """Keys of a task that makes its problems; an extension's task has these, and its own `params`."""

    train_problems: int = Field(default=20_000, ge=1, le=10_000_000)
    """Number of distinct training problems; an epoch is one pass over them."""
    validation_problems: int = Field(default=256, ge=0, le=10_000_000)
    """Number of distinct held-out problems for the curves during training."""
    test_problems: int = Field(default=1_024, ge=0, le=10_000_000)
    """Number of distinct held-out problems for the final figures."""
    files: TaskFiles | None = None
    """Problems from files; null generates all of them."""

    def has(self, split: Split) -> bool:
        """Whether a split has problems."""
        return self.num_problems(split) > 0

    def num_problems(self, split: Split) -> int:
        """Number of problems that the recipe wants in a split (a file may hold another number)."""
        counts = {
            "train": self.train_problems,
            "validation": self.validation_problems,
            "test": self.test_problems,
        }
        return counts[split]

    def file(self, split: Split) -> Path | None:
        """The file a split comes from, None when it is generated."""
        if self.files is None:
            return None
        return {"train": self.files.train, "validation": self.files.validation, "test": self.files.test}[
            split
        ]


class CountdownTask(GeneratedTaskConfig):
    """Reach the target with the given numbers, each used once."""

    name: Literal["countdown"]
    """Name of the task."""
    params: CountdownParams = CountdownParams()
    """Settings of the task: ranges, held-out shares, behaviour of the solver."""


class PartsTask(GeneratedTaskConfig):
    """Work out several chains of arithmetic, which may build on each other, and add them up."""

    name: Literal["parts"]
    """Name of the task."""
    params: PartsParams = PartsParams()
    """Settings of the task: ranges, held-out shares, behaviour of the solver."""


class DatasetTask(TaskSection):
    """Rows of your own, from files or the hub, compared with gold answers by a verifier."""

    name: Literal["dataset"]
    """Name of the task."""
    params: DatasetParams
    """Sources of the rows, and what becomes of rows that are too long or there twice."""

    def has(self, split: Split) -> bool:
        """Whether a split has problems."""
        return self.params.has(split)

    @property
    def is_shuffled(self) -> bool:
        """Whether every epoch of training has an order of its own."""
        return self.params.order == "shuffled"


class ReasoningGymTask(GeneratedTaskConfig):
    """Answer questions of the library `reasoning-gym`: any of its data sets, or a weighted mix."""

    name: Literal["reasoning_gym"]
    """Name of the task."""
    params: ReasoningGymParams
    """Settings of the task: its data sets and their difficulty, held-out shares."""
    verifier: VerifierConfig | None = ReasoningGymVerifierParams(name="reasoning_gym")
    """Verifier of the answers; by default the data sets' own scorers."""


class SudokuTask(GeneratedTaskConfig):
    """Fill a grid of 4 x 4 or 6 x 6 so that every row, column and box holds each number once."""

    name: Literal["sudoku"]
    """Name of the task."""
    params: SudokuParams = SudokuParams()
    """Settings of the task: size and given cells, held-out shares, behaviour of the solver."""


class AsyncPlanTask(GeneratedTaskConfig):
    """Find the shortest time in which all steps of a plan are done, some of which wait for others."""

    name: Literal["async_plan"]
    """Name of the task."""
    params: AsyncPlanParams = AsyncPlanParams()
    """Settings of the task: size of the plans, held-out shares, behaviour of the solver."""


class JudgeTask(GeneratedTaskConfig):
    """Say of each step of labelled solutions whether it is right. Numbers of problems are the most that are
    taken: there are as many as labelled solutions.
    """

    name: Literal["judge"]
    """Name of the task."""
    params: JudgeParams
    """Origin of the labels, held-out shares, format of question and answer, and the marks."""
    train_problems: int = Field(default=10_000_000, ge=1, le=10_000_000)
    """Most training problems; an epoch is one pass over them."""

    def has(self, split: Split) -> bool:
        """Whether a split can have problems."""
        if self.file(split) is not None or (split == "test" and self.params.test_file is not None):
            return True
        shares = {"validation": self.params.validation_percent, "test": self.params.test_percent}
        return self.num_problems(split) > 0 and shares.get(split, 1) > 0


SECTIONS: dict[str, type[TaskSection]] = by_name(
    CountdownTask, PartsTask, DatasetTask, ReasoningGymTask, SudokuTask, AsyncPlanTask, JudgeTask
)
"""Name of a task -> its section in a recipe."""

TaskConfig: TypeAlias = Annotated[GeneratedTaskConfig | DatasetTask, Registered(lambda: SECTIONS)]
"""The recipe's section `task`."""

for _name, _task in TASKS.items():
    assert SECTIONS[_name].model_fields["params"].annotation is _task.Params, "a section has its task's keys"
