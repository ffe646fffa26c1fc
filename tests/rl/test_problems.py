"""`solved_task`: a script that wants a solver says which recipe has none."""

import pytest

from data.errors import ConfigError
from data.tasks.async_plan.task import AsyncPlan
from data.tasks.countdown import Countdown
from data.tasks.reasoning_gym.task import GymDataset, ReasoningGym, ReasoningGymParams
from rl.problems import solved_task


def test_a_task_without_a_solver_is_refused() -> None:
    """Countdown and plans are solved; Reasoning Gym's data sets have answers only."""
    solved = Countdown()
    assert solved_task(solved, "mine.yaml") is solved
    assert solved_task(AsyncPlan(), "mine.yaml")
    unsolved = ReasoningGym(ReasoningGymParams(datasets=(GymDataset(name="chain_sum"),)))
    with pytest.raises(ConfigError, match=r"mine\.yaml: task reasoning_gym: has no solver\n  fix: "):
        solved_task(unsolved, "mine.yaml")
