"""Recipes made of others: a base, stages changed by name, paths of the file that says them."""

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recipe_lab import SMALL, message, write

from rl.config import load_recipe
from rl.config.tree import merge


def test_base_is_merged_key_by_key_and_lists_are_replaced(tmp_path: Path) -> None:
    write(tmp_path, SMALL, "base.yaml")
    child = {
        "base": "base.yaml",
        "name": "child",
        "engine": {"num_engines": 2},
        "rewards": [{"name": "correct", "wrong": -1.0}],
    }
    recipe = load_recipe(write(tmp_path, child))
    assert (recipe.name, recipe.engine.num_engines, recipe.task.train_problems) == ("child", 2, 100)
    assert [term.name for term in recipe.rewards] == ["correct"]


def test_another_protocol_replaces_the_bases_whole(tmp_path: Path) -> None:
    write(tmp_path, SMALL, "base.yaml")
    recipe = load_recipe(
        write(tmp_path, {"base": "base.yaml", "protocol": {"name": "sequential", "max_tokens": 90}})
    )
    assert recipe.protocol.name == "sequential"


def test_stages_of_a_base_are_changed_by_name(tmp_path: Path) -> None:
    write(tmp_path, SMALL, "base.yaml")
    recipe = load_recipe(write(tmp_path, {"base": "base.yaml", "stages": {"rl": {"steps": 9}}}))
    assert recipe.stage("rl").steps == 9  # type: ignore[union-attr]
    assert recipe.stage("sft").steps == 100  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("base", "expected"),
    [("none.yaml", "does not exist"), (3, "must be one file name"), ("r.yaml", "has a base itself")],
)
def test_a_base_that_cannot_be(tmp_path: Path, base: object, expected: str) -> None:
    text = message(write(tmp_path, {**SMALL, "base": base}))
    assert f"r.yaml: base = {base!r}: " in text and expected in text


def test_an_error_in_the_base_names_the_base(tmp_path: Path) -> None:
    content = copy.deepcopy(SMALL)
    content["model"]["num_layers"] = 0
    base = write(tmp_path, content, "base.yaml")
    child = write(tmp_path, {"base": "base.yaml", "name": "child"})
    assert message(child).startswith(f"{base} (base of {child}): model.num_layers = 0")


def test_a_stage_changes_the_recipes_task_and_keeps_the_rest(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SMALL), ["rl.task.params.high=9", "rl.protocol.child_tokens=50"])
    stage = recipe.stage("rl")
    assert recipe.task_of(stage).params.high == 9
    assert recipe.task_of(stage).train_problems == 100
    assert recipe.task_of(recipe.stage("sft")).params.high == 10
    assert recipe.protocol_of(stage).model_dump()["parent_tokens"] == 80
    assert recipe.protocol_of(stage).model_dump()["child_tokens"] == 50


def test_paths_are_relative_to_the_file_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "below").mkdir()
    content = copy.deepcopy(SMALL)
    content["task"]["files"] = {"train": "p.jsonl"}
    base = write(tmp_path / "below", content, "base.yaml")
    child = write(tmp_path, {"base": "below/base.yaml", "task": {"files": {"test": "t.jsonl"}}})
    monkeypatch.chdir(tmp_path / "below")
    recipe = load_recipe(child, ["task.files.validation=v.jsonl"])
    files = recipe.task.files
    assert files is not None
    assert (files.train, files.test) == (base.parent / "p.jsonl", tmp_path / "t.jsonl")
    assert files.validation == tmp_path / "below" / "v.jsonl"


@given(
    base=st.dictionaries(
        st.sampled_from("abc"), st.integers() | st.dictionaries(st.sampled_from("xy"), st.integers())
    ),
    change=st.dictionaries(
        st.sampled_from("abc"), st.integers() | st.dictionaries(st.sampled_from("xy"), st.integers())
    ),
)
def test_merging_is_idempotent_and_keeps_what_is_not_named(
    base: dict[str, Any], change: dict[str, Any]
) -> None:
    merged = merge(base, change)
    assert merge(merged, change) == merged
    assert {key: merged[key] for key in base if key not in change} == {
        k: base[k] for k in base if k not in change
    }
    assert merge(base, {}) == base
