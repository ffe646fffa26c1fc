"""The task section of a recipe: its name decides what `params` may say, and how long prompts get."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from data.errors import ConfigError
from data.tasks.parts import Parts, PartsParams
from rl.config import load_recipe, resolved
from rl.config.lengths import needed_length

SMALL: dict[str, Any] = {
    "name": "small",
    "task": {"name": "parts", "train_problems": 100, "validation_problems": 10, "test_problems": 10},
    "model": {
        "kind": "scratch", "hidden_size": 64, "num_layers": 2, "num_heads": 2, "num_kv_heads": 2,
        "head_dim": 32, "intermediate_size": 128, "max_length": 256,
    },
    "protocol": {"name": "spawn_join", "parent_tokens": 80, "child_tokens": 60},
    "rewards": [{"name": "correct"}],
    "stages": [
        {"name": "sft", "kind": "sft", "steps": 100, "tokens_per_step": 1024, "forest_tokens": 256,
         "learning_rate": 0.01, "demonstrations": 100},
        {"name": "eval", "kind": "eval", "checkpoints": ["sft"]},
    ],
}  # fmt: skip


def write(folder: Path, content: Any, name: str = "r.yaml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(content))
    return path


def message(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, overrides)
    return str(caught.value)


def test_the_name_chooses_the_parameters(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SMALL), ["task.params.parts_high=3"])
    assert recipe.task.params == PartsParams(parts_high=3)
    assert resolved(recipe)["task"]["params"]["cap"] == 60


@pytest.mark.parametrize(
    ("override", "first", "remedy"),
    [
        ("task.params.operands=3", "task.params.operands = 3: there is no such key", "'operations'?"),
        ("task.params.part_high=3", "task.params.part_high = 3: there is no such key", "'parts_high'?"),
        ("task.params.parts_high=9", "task.params.parts_high = 9: must be at most 6", "give 6 or less"),
        ("task.params.high=70", "task.params: cap (60) must be at least high (70)", "change one of"),
        ("task.params.dependencies=1", "dependencies = 1: must be true or false", "earlier ones"),
        ("task.name=chess", "task.name = 'chess': must be one of 'countdown', ", "choose one"),
        ("task={train_problems: 3}", "task.name: is missing", "add 'name'"),
        ("task.params.text=questions", "the text of task parts is not single words", "pretrained model"),
        ("model.numbers=50", "model.numbers = 50: the task writes numbers up to 60", "set it to 60"),
    ],
)
def test_what_a_task_cannot_be(tmp_path: Path, override: str, first: str, remedy: str) -> None:
    lines = message(write(tmp_path, SMALL), override).split("\n")
    assert first in lines[0]
    assert remedy in lines[1]


def test_a_file_that_names_another_task_replaces_the_bases_whole(tmp_path: Path) -> None:
    base = copy.deepcopy(SMALL)
    base["task"]["params"] = {"parts_high": 3}
    write(tmp_path, base, "base.yaml")
    other = load_recipe(write(tmp_path, {"base": "base.yaml", "task": {"name": "countdown"}}))
    assert other.task.name == "countdown" and other.task.train_problems == 20_000
    same = {"base": "base.yaml", "task": {"name": "parts", "params": {"low": 2}}}
    assert load_recipe(write(tmp_path, same)).task.params == PartsParams(parts_high=3, low=2)


def test_a_stage_may_have_another_task(tmp_path: Path) -> None:
    content = copy.deepcopy(SMALL)
    content["stages"][0]["task"] = {"name": "countdown", "params": {"high": 9}}
    content["stages"][1]["task"] = {"params": {"dependencies": True}}
    recipe = load_recipe(write(tmp_path, content))
    assert recipe.task_of(recipe.stage("sft")).name == "countdown"
    assert recipe.task_of(recipe.stage("eval")).params == PartsParams(dependencies=True)
    assert recipe.task_of(recipe.stage("eval")).train_problems == 100


def test_the_task_says_how_long_a_prompt_gets(tmp_path: Path) -> None:
    # Four parts of "A = 9 * 9 * 9 * 9", 9 words each: 36. <solo>, prompt, <think>, then max_tokens.
    sequential = ["protocol={name: sequential, max_tokens: 100}"]
    recipe = load_recipe(write(tmp_path, SMALL), sequential)
    assert needed_length(Parts(recipe.task.params), recipe.protocol, digits=False) == 2 + 36 + 100
    text = message(tmp_path / "r.yaml", *sequential, "model.max_length=137")
    assert "model.max_length = 137: for sequential in stage 'sft'" in text and "need 138" in text
    # Digit by digit, "12" takes two: four numbers a part, four parts.
    wide = load_recipe(tmp_path / "r.yaml", [*sequential, "task.params.high=12", "model.digits=true"])
    assert needed_length(Parts(wide.task.params), wide.protocol, digits=True) == 2 + 36 + 16 + 100
