"""The tasks that recipes can name."""

from data.tasks.async_plan.task import AsyncPlan, AsyncPlanParams
from data.tasks.base import Split, Task
from data.tasks.countdown import Countdown, CountdownParams
from data.tasks.dataset.params import DatasetParams
from data.tasks.dataset.task import Dataset
from data.tasks.parts import Parts, PartsParams
from data.tasks.reasoning_gym.task import ReasoningGym, ReasoningGymParams
from data.tasks.sudoku.task import Sudoku, SudokuParams

TASKS: dict[str, type[Task]] = {
    Countdown.name: Countdown,
    Parts.name: Parts,
    Dataset.name: Dataset,
    ReasoningGym.name: ReasoningGym,
    Sudoku.name: Sudoku,
    AsyncPlan.name: AsyncPlan,
}

TaskParams = (
    CountdownParams | PartsParams | DatasetParams | ReasoningGymParams | SudokuParams | AsyncPlanParams
)
"""Parameters of any task. A recipe's task section is in rl.config.task, one class for each."""


def build_task(params: TaskParams) -> Task:
    """The task whose parameters these are."""
    return next(task for task in TASKS.values() if task.Params is type(params))(params)


__all__ = ["TASKS", "Split", "Task", "TaskParams", "build_task"]
