"""The tasks that recipes can name."""

from data.params import Params
from data.tasks.async_plan.task import AsyncPlan
from data.tasks.base import Split, Task
from data.tasks.countdown import Countdown
from data.tasks.dataset.task import Dataset
from data.tasks.judge.task import JudgeSteps
from data.tasks.parts import Parts
from data.tasks.reasoning_gym.task import ReasoningGym
from data.tasks.sudoku.task import Sudoku

TASKS: dict[str, type[Task]] = {
    Countdown.name: Countdown,
    Parts.name: Parts,
    Dataset.name: Dataset,
    ReasoningGym.name: ReasoningGym,
    Sudoku.name: Sudoku,
    AsyncPlan.name: AsyncPlan,
    JudgeSteps.name: JudgeSteps,
}
"""Name -> task. A recipe's task section is in rl.config.task, one class for each."""


def build_task(params: Params) -> Task:
    """The task whose parameters these are."""
    return next(task for task in TASKS.values() if task.Params is type(params))(params)


__all__ = ["TASKS", "Split", "Task", "build_task"]
