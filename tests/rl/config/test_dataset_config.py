"""Task `dataset` in a recipe: file names, what is refused, and what a resumed run must find again."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from own_data import gsm8k_rows, write_rows
from recipe_lab import message, write

from data.tasks.dataset.params import Source
from rl.config import load_recipe
from rl.config.fingerprint import changed_files, identity
from rl.config.task import DatasetTask

OWN: dict[str, Any] = {
    "name": "mine",
    "task": {"name": "dataset", "params": {"train": "mine.jsonl", "test_percent": 10}, "verifier": "exact"},
    "model": {"kind": "pretrained", "path": "model", "max_length": 1024},
    "protocol": {"name": "self_consistency"},
    "rewards": [{"name": "correct"}],
    "stages": [
        {"name": "rl", "kind": "rl", "steps": 2, "groups_per_step": 2, "samples_per_group": 2,
         "learning_rate": 0.00001},
        {"name": "eval", "kind": "eval", "checkpoints": ["start", "rl"]},
    ],
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recipe, its rows, and a folder in the place of the model."""
    (tmp_path / "model").mkdir()
    write_rows(tmp_path / "mine.jsonl")
    write(tmp_path, OWN)
    return tmp_path


def test_a_file_is_named_relative_to_the_recipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = load_recipe(folder / "r.yaml").task
    assert isinstance(task, DatasetTask) and task.params.train.file == folder / "mine.jsonl"
    assert task.has("test") and not task.has("validation") and task.is_shuffled
    (folder / "other").mkdir()
    monkeypatch.chdir(folder / "other")
    changed = load_recipe(folder / "r.yaml", ["task.params.train=b.jsonl", "task.params.order=file"]).task
    assert isinstance(changed, DatasetTask) and changed.params.train.file == folder / "other" / "b.jsonl"
    assert not changed.is_shuffled
    hub = load_recipe(folder / "r.yaml", ["task.params.train={hub: openai/gsm8k, config: main}"]).task
    assert isinstance(hub, DatasetTask) and hub.params.train.hub == "openai/gsm8k"


def test_a_stage_may_have_rows_of_its_own(folder: Path) -> None:
    stages = [
        OWN["stages"][0],
        {**OWN["stages"][1], "task": {"params": {"test": "t.csv", "test_percent": 0}}},
    ]
    task = load_recipe(write(folder, {**OWN, "stages": stages})).stages[1].task
    assert isinstance(task, DatasetTask) and task.params.test is not None
    assert task.params.test.file == folder / "t.csv" and task.params.train.file == folder / "mine.jsonl"


@pytest.mark.parametrize(
    ("override", "first"),
    [
        (
            "task.verifier=null",
            "task.verifier: is missing: rows of your own do not say how",
        ),
        ("task.verifier=exakt", "task.verifier.name = 'exakt': must be one of"),
        (
            "task.params.test_percent=0",
            "task.params.test_percent = 0: the test split is empty",
        ),
        (
            "rl.validate_every=1",
            "task.params.validation_percent = 0: the validation split is empty",
        ),
        ("task.params.layout=gsm9k", "task.params: layout 'gsm9k' is not one of aime"),
        ("task.params.colums={}", "task.params.colums = {}: there is no such key"),
        ("task.params.train={}", "task.params.train: a source is either a `file` or a name on the `hub`"),
        ("task.params.on_long=left", "task.params.on_long = 'left': must be 'error', 'drop' or 'cut'"),
        ("task.params.columns={prompt: 3}", "task.params.columns.prompt = 3: must be text"),
        ("task.train_problems=5", "task.train_problems = 5: there is no such key"),
    ],
)
def test_what_is_refused(folder: Path, override: str, first: str) -> None:
    assert first in message(folder / "r.yaml", override).split("\n")[0]


def test_rows_are_identified_by_their_content_wherever_they_lie(folder: Path) -> None:
    before = identity(load_recipe(folder / "r.yaml"))
    key = "task.params.train.file"
    assert list(before.files[key]) == [str(folder / "mine.jsonl")]
    shutil.move(folder / "mine.jsonl", folder / "moved.jsonl")
    moved = identity(load_recipe(folder / "r.yaml", [f"task.params.train={folder / 'moved.jsonl'}"]))
    assert moved.fingerprint == before.fingerprint and not changed_files(before.files, moved.files)
    write_rows(folder / "mine.jsonl", gsm8k_rows(199))
    other = identity(load_recipe(folder / "r.yaml"))
    assert changed_files(before.files, other.files) == [
        f"{key}: {folder / 'mine.jsonl'} has other content than when the run began"
    ]
    policy = identity(load_recipe(folder / "r.yaml", ["task.params.duplicates=keep"]))
    assert policy.fingerprint != before.fingerprint


@pytest.mark.parametrize(
    ("common", "own", "source"),
    [
        ({"hub": "a/b", "config": "main", "split": "x"}, {"hub": "c/d"}, {"hub": "c/d"}),
        ({"hub": "a/b", "config": "main"}, {"hub": "a/b", "split": "y"}, {"hub": "a/b", "split": "y"}),
        ({"hub": "a/b", "config": "main"}, "own.jsonl", {"file": "own.jsonl"}),
        ("own.jsonl", {"hub": "a/b", "split": "y"}, {"hub": "a/b", "split": "y"}),
        # Without a place it is the same data set.
        ({"hub": "a/b", "config": "main"}, {"split": "y"}, {"hub": "a/b", "config": "main", "split": "y"}),
    ],
)
def test_a_source_of_a_stage_replaces_the_recipe_s_whole(
    folder: Path, common: Any, own: Any, source: dict[str, str]
) -> None:
    if "file" in source:
        source = {"file": str(folder / source["file"])}
    expected = Source.model_validate_json(json.dumps(source))
    params = {**OWN["task"]["params"], "test": common, "test_percent": 0}
    content = {**OWN, "task": {**OWN["task"], "params": params}}
    stages = [OWN["stages"][0], {**OWN["stages"][1], "task": {"params": {"test": own}}}]
    task = load_recipe(write(folder, {**content, "stages": stages})).stages[1].task
    assert isinstance(task, DatasetTask) and task.params.test == expected
    # A file with a base is merged in the same way.
    write(folder, content, "base.yaml")
    above = write(folder, {"base": "base.yaml", "task": {"params": {"test": own}}}, "above.yaml")
    over = load_recipe(above).task
    assert isinstance(over, DatasetTask) and over.params.test == expected
