"""A run's files belong together; a path or a file that cannot be one is refused with one message."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from data.errors import ConfigError
from rl.config import Recipe, load_recipe
from rl.storage.identity import read_identity, replace_recipe
from rl.storage.run_directory import RunDirectory

CPU = Path(__file__).parents[3] / "recipes" / "countdown_cpu.yaml"


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe(CPU)


def test_a_kill_while_the_directory_was_made_does_not_matter(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "recipe.json").write_text("{}")
    (tmp_path / ".fingerprint.json.partial").write_text("{")
    directory = RunDirectory(tmp_path)
    directory.open(recipe)
    assert directory.open(recipe) == []


def test_an_edited_recipe_is_refused(tmp_path: Path, recipe: Recipe) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.open(recipe)
    path = directory.path / "recipe.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 1}))
    uses: tuple[Callable[[], object], ...] = (
        lambda: directory.open(recipe), directory.recipe, lambda: directory.run_id
    )  # fmt: skip
    for use in uses:
        with pytest.raises(ConfigError, match=r"recipe\.json: was changed after the run was made\n  fix: "):
            use()


def test_an_accepted_change_keeps_the_run_whole_at_every_moment(tmp_path: Path, recipe: Recipe) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.open(recipe)
    run_id, path = directory.run_id, directory.path / "recipe.json"
    before = path.read_bytes()
    moved = load_recipe(CPU, ["rl.num_ranks=2"])
    assert [change.key for change in directory.open(moved)] == ["rl.num_ranks"]
    directory.accept(moved)
    assert directory.open(moved) == [] and directory.run_id == run_id
    # Killed between the two writes: the identity is new, the recipe is still the old one.
    path.write_bytes(before)
    assert [change.key for change in directory.open(moved)] == ["rl.num_ranks"]
    replace_recipe(directory.path, json.loads(path.read_text()))
    assert len(read_identity(directory.path).recipes) == 2


def test_the_ledger_of_another_run_is_refused(tmp_path: Path, recipe: Recipe) -> None:
    first, second = RunDirectory(tmp_path / "first"), RunDirectory(tmp_path / "second")
    for directory in (first, second):
        directory.open(recipe)
        directory.open_ledger().close()
        directory.open_ledger().close()
    assert first.run_id != second.run_id
    shutil.copyfile(first.ledger, second.ledger)
    with pytest.raises(ConfigError, match=r"is the ledger of another run .*\n  fix: "):
        second.open_ledger()
    second.ledger.unlink()
    second.open_ledger().close()
    second.ledger.unlink()
    second.finish("sft", {})
    with pytest.raises(ConfigError, match="is missing, though stages of the run have begun"):
        second.open_ledger()


def loop(path: Path) -> Path:
    path.symlink_to(path)
    return path


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda folder: Path("/dev/null"), id="device"),
        pytest.param(lambda folder: folder / ("x" * 300), id="long name"),
        pytest.param(lambda folder: loop(folder / "loop"), id="loop of links"),
        pytest.param(lambda folder: Path(shutil.copy(__file__, folder)), id="file"),
        pytest.param(lambda folder: Path("/proc/1/run"), id="system folder"),
    ],
)
def test_a_path_that_cannot_hold_a_run_is_one_message(
    tmp_path: Path, recipe: Recipe, made: Callable[[Path], Path]
) -> None:
    with pytest.raises(ConfigError, match=r"cannot hold a run \(.+\)\n  fix: choose another --run"):
        RunDirectory(made(tmp_path)).open(recipe)


GARBAGE = ("", "{", "[]", "null", "3", '{"a": 1}', "[" * 100_000, "\x00\xff")


def test_garbage_in_the_identity_is_one_message(tmp_path: Path, recipe: Recipe) -> None:
    directory = RunDirectory(tmp_path)
    directory.open(recipe)
    sound = json.loads((tmp_path / "fingerprint.json").read_text())
    for content in (*GARBAGE, json.dumps(sound | {"run_id": 3}), json.dumps(sound | {"files": None})):
        (tmp_path / "fingerprint.json").write_text(content, encoding="latin-1")
        with pytest.raises(ConfigError, match=r"fingerprint\.json: [^\n]*\n  fix: restore the file"):
            directory.open(recipe)


@pytest.mark.parametrize("content", GARBAGE)
def test_garbage_as_the_recipe_is_one_message(tmp_path: Path, content: str) -> None:
    (tmp_path / "recipe.json").write_text(content, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"recipe\.json: [^\n]*\n  fix: restore the file"):
        RunDirectory(tmp_path).recipe()
