"""The term `process` takes a task that labels its steps."""

from pathlib import Path

from recipe_lab import SMALL, message, write

from rl.config import load_recipe


def test_a_task_that_labels_steps(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SMALL), ["rewards=[{name: correct}, {name: process, weight: 0.1}]"])
    assert [term.name for term in recipe.rewards] == ["correct", "process"]


def test_a_task_that_does_not(tmp_path: Path) -> None:
    gym = "task={name: reasoning_gym, params: {datasets: [{name: chain_sum}]}, train_problems: 10}"
    model = "model={kind: pretrained, path: somewhere, max_length: 256}"
    stages = SMALL | {"stages": [stage for stage in SMALL["stages"] if stage["kind"] == "rl"]}
    text = message(write(tmp_path, stages), gym, model, "rewards=[{name: correct}, {name: process}]")
    assert "rewards = 'process': task 'reasoning_gym' of stage 'rl' does not label its steps" in text
    assert "fix: leave process out, or take one of async_plan, countdown, parts, sudoku" in text
