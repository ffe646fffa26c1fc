"""Labels of a stage as problems of task `judge`, within the model's context."""

from dataclasses import replace
from pathlib import Path

import pytest
from judge_lab import judging
from tokenizer_lab import codec_of

from data.errors import ConfigError
from rl.config import Recipe, load_recipe
from rl.config.task import JudgeTask
from rl.evaluation.recorded_steps import stage_problems
from rl.scorers.judged_problems import judged_problems
from rl.scorers.label_file import LabelRow, write_labels
from rl.storage.run_directory import RunDirectory

CODEC = codec_of("gpt")
ROW = LabelRow(
    problem="row-0", episode="e0", call=0, prompt="<user>1 + 1?",
    question="What is 1 + 1?", first=3, ids=(1, 2, 3, 4),
    steps=("It is 2.", "So 3."), stops=(1, 2), labels=(1.0, 0.25),
)  # fmt: skip


def house(tmp_path: Path, max_length: int = 2048) -> tuple[Recipe, JudgeTask, RunDirectory]:
    """Recipe, its judge's task, and a directory of the run."""
    recipe = load_recipe(judging(tmp_path), [f"model.max_length={max_length}"])
    config = recipe.task_of(recipe.stage("judge"))
    assert isinstance(config, JudgeTask)
    return recipe, config, RunDirectory(tmp_path / "run")


def test_what_a_stage_has_labelled_is_judged(tmp_path: Path) -> None:
    recipe, config, directory = house(tmp_path)
    long = replace(ROW, episode="e1", steps=("word " * 3000, "So 3."))
    joined = replace(ROW, episode="e2", call=3, prompt="<user>1 + 1?\n<results> 2")
    unknown = replace(ROW, episode="e3", labels=(None, None))
    write_labels(directory.stage("mc") / "labels.jsonl", [ROW, long, joined, unknown])
    found = {each.id: each for each in judged_problems(recipe, config, "train", CODEC, directory)}
    assert list(found) == ["e0/0", "e2/3"], "one is too long, one has no label"
    assert found["e0/0"].fields == {
        "problem": "What is 1 + 1?", "context": "", "steps": ["It is 2.", "So 3."], "labels": [True, False],
    }  # fmt: skip
    assert found["e2/3"].fields["context"] == "<user>1 + 1?\n<results> 2"
    every = stage_problems(recipe, directory, recipe.stage("judge"), CODEC)
    assert set(every) == {"e0/0", "e1/0", "e2/3"}, "the held-out splits have none"


def test_why_there_is_nothing_to_judge(tmp_path: Path) -> None:
    recipe, config, directory = house(tmp_path)
    with pytest.raises(ConfigError, match="finish stage 'mc', whose labels it has, first"):
        judged_problems(recipe, config, "train", CODEC, directory)
    write_labels(directory.stage("mc") / "labels.jsonl", [ROW])
    assert judged_problems(recipe, config, "test", CODEC, directory) == []
    recipe, config, directory = house(tmp_path, max_length=100)
    with pytest.raises(ConfigError, match="none of 1 solutions of the train split, with the calls"):
        judged_problems(recipe, config, "train", CODEC, directory)
