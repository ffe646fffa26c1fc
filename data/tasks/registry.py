"""The tasks that recipes can name."""

from data.tasks.base import Split, Task
from data.tasks.countdown import Countdown, CountdownParams
from data.tasks.dataset.params import DatasetParams
from data.tasks.dataset.task import Dataset
from data.tasks.parts import Parts, PartsParams

TASKS: dict[str, type[Task]] = {
    Countdown.name: Countdown,
    Parts.name: Parts,
    Dataset.name: Dataset,
}

TaskParams = CountdownParams | PartsParams | DatasetParams
"""Parameters of any task. A recipe's task section is in rl.config.task, one class for each."""


def build_task(params: TaskParams) -> Task:
    """The task whose parameters these are."""
    return next(task for task in TASKS.values() if task.Params is type(params))(params)


__all__ = ["TASKS", "Split", "Task", "TaskParams", "build_task"]
