"""The run's own copy of its problems: written once, and refused when it was altered."""

import json
from pathlib import Path
from typing import Any

import pytest
from recipe_lab import SMALL, write

from data.errors import ConfigError
from rl.config import load_recipe
from rl.stages.context import RunContext, prepare
from rl.storage.run_directory import RunDirectory


def test_an_edited_copy_of_the_problems_is_refused(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SMALL), ())
    directory = RunDirectory(tmp_path / "run")
    directory.start.mkdir(parents=True)
    (directory.start / "config.json").write_text("{}")  # the initial weights are there already
    missing: Any = None
    prepare(recipe, directory, missing)
    context = RunContext(recipe, directory, missing, missing, missing)
    stage = recipe.stages[-1]
    before = context.problems(stage, "train")

    prepare(recipe, directory, missing)
    assert context.problems(stage, "train") == before, "a second start changes nothing"

    copy = directory.problems("train")
    rows = [json.loads(line) for line in copy.read_text().splitlines()]
    rows[0]["target"] += 1
    copy.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        ConfigError, match=r"problems: train.jsonl is not what was written(?s:.*)fix: restore"
    ):
        context.problems(stage, "train")
