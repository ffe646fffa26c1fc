"""What a half-done evaluation is compared by: contents of files, never where they lie."""

import json
from pathlib import Path
from typing import Any

import pytest
from recipe_lab import SMALL, write

from data.errors import ConfigError
from rl.config import load_recipe
from rl.config.stages import EvalStage
from rl.stages.evaluate import grading


def setting(folder: Path, *overrides: str, own: str = "def f(answer): return True\n") -> dict[str, Any]:
    """The setting of a recipe in a folder of its own, with rows and a verifier beside it."""
    folder.mkdir(exist_ok=True)
    (folder / "own.py").write_text(own)
    task = {
        "name": "dataset",
        "params": {"train": "rows.jsonl", "test": "test.jsonl"},
        "verifier": "python: own.py:f",
    }
    content = {**SMALL, "task": task, "model": {"kind": "pretrained", "path": "model"}}
    content["stages"] = [stage for stage in SMALL["stages"] if stage["kind"] != "sft"]
    content["stages"] = [
        {**stage, "checkpoints": ["rl"]} if stage["kind"] == "eval" else stage for stage in content["stages"]
    ]
    recipe = load_recipe(write(folder, content), ["rl.validate_every=0", *overrides])
    stage = recipe.stage("eval")
    assert isinstance(stage, EvalStage)
    return grading(recipe, stage)


def test_moved_files_and_other_limits_are_the_same_evaluation(tmp_path: Path) -> None:
    here = setting(tmp_path / "here")
    assert here == setting(tmp_path / "there")
    assert here == setting(tmp_path / "slow", "task.verifier.seconds=8", "task.verifier.processes=1")
    assert str(tmp_path) not in json.dumps(here)


def test_another_content_or_rule_is_another_evaluation(tmp_path: Path) -> None:
    here = setting(tmp_path / "here")
    other = setting(tmp_path / "other", own="def f(answer): return False\n")
    assert [key for key in here if here[key] != other[key]] == ["files"]
    longer = setting(tmp_path / "longer", "protocol.child_tokens=61")
    assert [key for key in here if here[key] != longer[key]] == ["protocol"]
    dropped = setting(tmp_path / "dropped", "task.params.duplicates=keep")
    assert [key for key in here if here[key] != dropped[key]] == ["task"]


def test_a_verifier_s_file_that_is_gone_is_named(tmp_path: Path) -> None:
    setting(tmp_path / "here")
    with pytest.raises(ConfigError, match=r"nosuch\.py cannot be read"):
        setting(tmp_path / "here", f"task.verifier.file={tmp_path}/nosuch.py")
