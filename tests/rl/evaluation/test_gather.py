"""Figures gathered from the files of a run: no engine, no Ray, and no stage or protocol known by its name."""

import json
from pathlib import Path

import pytest
from recipe_lab import SMALL, write

from data.episodes.trajectory import ThreadOutcome
from data.errors import ConfigError
from rl.config import Recipe, load_recipe
from rl.config.stages import EvalStage
from rl.evaluation.figure import Progress
from rl.evaluation.gather import (
    finished_evaluations,
    joined,
    outcomes_path,
    report,
    training_progress,
)
from rl.evaluation.outcome_file import save_outcomes
from rl.evaluation.outcomes import Outcome
from rl.storage.run_directory import RunDirectory

SFT, RL, EVAL, _ = SMALL["stages"]
CURRICULUM = [
    SFT | {"name": "warmup"},
    EVAL | {"name": "before", "checkpoints": ["warmup"], "greedy": False},
    RL | {"name": "easy"},
    RL | {"name": "hard", "steps": 2},
    EVAL | {"name": "after", "checkpoints": ["hard", "start"], "greedy": False},
]


def outcome(index: int, correct: bool) -> Outcome:
    return Outcome(
        problem_id=f"p{index}", sample=0, correct=correct, total_tokens=10, critical_tokens=10,
        critical_seconds=1.0, threads=0, unique_threads=0, forked=False, depth=0,
        outcome=ThreadOutcome.RETURNED, answered=True,
    )  # fmt: skip


def a_run(tmp_path: Path) -> tuple[Recipe, RunDirectory]:
    """`start` solves none of four problems, `warmup` one, and `hard` three."""
    recipe = load_recipe(write(tmp_path, SMALL | {"stages": CURRICULUM}))
    directory = RunDirectory(tmp_path / "run")
    for stage_name, solved in (("before", {"warmup": 1}), ("after", {"hard": 3, "start": 0})):
        for name, right in solved.items():
            outcomes = [outcome(index, index < right) for index in range(4)]
            save_outcomes(outcomes_path(directory, stage_name, name, "sampled"), outcomes, {})
        directory.finish(stage_name, {})
    lines = [
        {
            "stage": stage_name,
            "step": step,
            "validation/accuracy": accuracy,
            "validation/critical_tokens": 9.0,
        }
        for stage_name, step, accuracy in (
            ("easy", 0, 0.1),
            ("easy", 4, 0.2),
            ("hard", 0, 0.2),
            ("hard", 2, 0.5),
        )
    ]
    (directory.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return recipe, directory


def last_stage(recipe: Recipe) -> EvalStage:
    stage = recipe.stage("after")
    assert isinstance(stage, EvalStage)
    return stage


def test_a_curriculum_with_names_of_its_own_has_a_gain(tmp_path: Path) -> None:
    recipe, directory = a_run(tmp_path)
    stage = last_stage(recipe)
    found = finished_evaluations(recipe, directory, stage)
    assert list(found) == ["start", "hard"]  # the order of training, not of the stage's list
    summary = report(recipe, directory, stage, found, seconds=1.0, peak_memory_gb=1.0)
    assert list(summary["arms"]["spawn_join"]) == ["start", "warmup", "hard"]
    gain = summary["gain"]
    assert (gain["from"], gain["to"], gain["points"]) == ("start", "hard", 75.0)
    assert json.loads((directory.path / "summary.json").read_text())["gain"]["points"] == 75.0
    assert (directory.path / "figure.png").stat().st_size > 10_000


def test_without_the_baseline_the_gain_is_between_trained_stages(tmp_path: Path) -> None:
    recipe, directory = a_run(tmp_path)
    stage = last_stage(recipe)
    found = finished_evaluations(recipe, directory, stage)
    summary = report(recipe, directory, stage, {"hard": found["hard"]}, seconds=1.0, peak_memory_gb=1.0)
    gain = summary["gain"]
    assert (gain["from"], gain["to"], gain["points"]) == ("warmup", "hard", 50.0)


def test_an_evaluation_outside_the_recipe_leaves_the_figures_of_the_run_alone(tmp_path: Path) -> None:
    recipe, directory = a_run(tmp_path)
    stage = last_stage(recipe)
    found = finished_evaluations(recipe, directory, stage)
    other = stage.model_copy(update={"name": "eval_hard"})
    summary = report(recipe, directory, other, found, seconds=1.0, peak_memory_gb=1.0)
    assert list(summary["arms"]["spawn_join"]) == ["start", "hard"]
    assert not (directory.path / "summary.json").exists()
    assert (directory.stage("eval_hard") / "summary.json").exists()


def test_validation_goes_on_from_stage_to_stage(tmp_path: Path) -> None:
    recipe, directory = a_run(tmp_path)
    (line,) = training_progress(recipe, directory)
    # `easy` has four steps; the weights after it are validated by both stages.
    assert (line.steps, line.accuracy) == ((0, 4, 6), (0.1, 0.2, 0.5))
    first = Progress(arm="a", seed=0, steps=(0, 5, 10), accuracy=(0.1, 0.2, 0.3), critical=(1, 2, 3))
    second = Progress(arm="a", seed=0, steps=(0, 5), accuracy=(0.9, 0.4), critical=(9, 4))
    assert joined(first, second, after=10) == Progress(
        arm="a", seed=0, steps=(0, 5, 10, 15), accuracy=(0.1, 0.2, 0.3, 0.4), critical=(1, 2, 3, 4)
    )


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    recipe, directory = a_run(tmp_path)
    outcomes_path(directory, "after", "hard", "sampled").unlink()
    with pytest.raises(ConfigError, match=r"after/hard\.sampled\.jsonl: no such file"):
        finished_evaluations(recipe, directory, last_stage(recipe))
