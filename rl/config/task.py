"""What is learned: the task, its parameters, and where its problems come from."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from data.task import TaskParams
from data.task_base import Split
from rl.config.base import Section

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class TaskFiles(Section):
    """Problems from .jsonl or .parquet files instead of the generator. A split left out is generated."""

    train: Path | None = None
    """File of training problems, relative to the recipe."""
    validation: Path | None = None
    """File of validation problems: choices are made on these."""
    test: Path | None = None
    """File of test problems: touched by the final evaluation only."""


class TaskConfig(Section):
    """A task and its problems."""

    name: Literal["countdown"]
    """Which task: `countdown` (reach the target with the given numbers, each used once)."""
    params: TaskParams = TaskParams()
    """The task's own settings: ranges, held-out shares, the solver's habits."""
    train_problems: int = Field(default=20_000, ge=1)
    """Distinct problems trained on; an epoch is one pass over them."""
    validation_problems: int = Field(default=256, ge=0)
    """Distinct held-out problems for the curves during training."""
    test_problems: int = Field(default=1_024, ge=0)
    """Distinct held-out problems for the final figures."""
    files: TaskFiles | None = None
    """Problems from files; null generates all of them."""

    def num_problems(self, split: Split) -> int:
        """Problems asked of a split (a file may hold another number)."""
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
