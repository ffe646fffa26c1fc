"""Input made to hang, to fill memory or to crash is refused at once, with one message."""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from data.errors import ConfigError
from rl.config import load_recipe
from rl.config.recipe import Recipe
from rl.config.yaml_file import parse_value, read_mapping

CPU = Path(__file__).parents[3] / "recipes" / "countdown_cpu.yaml"
_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{below}'] * 9)}]\n"
    for below, name in zip("abcdefghij", "bcdefghijk", strict=True)
)
HOSTILE = {
    "an alias bomb": (_BOMB, "line 6: stands for more than 100000 values"),
    "a merge of itself": ("a: &a {<<: *a}", "contains itself"),
    "a list within itself": ("a: &a [*a]", "contains itself"),
    "a mapping within itself": ("a: &a {b: {c: *a}}", "contains itself"),
    "a list as key": ("? [1, 2]\n: x", "a key must be text"),
    "a mapping as key": ("? {a: b}\n: x", "a key must be text"),
    "a number as key": ("1: x", "the key '1' is not text"),
    "a switch as key": ("on: x", "the key 'on' is not text"),
    "open brackets": ("a: " + "[" * 3000, "nested more than 50 deep"),
    "closed brackets": ("a: " + "[" * 3000 + "]" * 3000, "nested more than 50 deep"),
    "nested mappings": ("a: " + "{a: " * 3000, "nested more than 50 deep"),
    "5,000 digits": ("a: " + "9" * 5000, "limit"),
    "a day that is none": ("a: 2026-02-31", "day is out of range"),
    "a megabyte": ("a: " + "x" * 1_000_001, "longer than 1000000 characters"),
    "code": ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_at_once(name: str, tmp_path: Path) -> None:
    text, expected = HOSTILE[name]
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    began = time.process_time()
    with pytest.raises(ConfigError) as error:
        read_mapping(path)
    assert time.process_time() - began < 2
    assert expected in str(error.value) and str(path) in str(error.value) and "fix: " in str(error.value)


def test_aliases_that_stay_small_are_yaml_as_ever() -> None:
    assert parse_value("{a: &x {k: 1}, b: *x, c: {<<: *x, m: 2}}") == {
        "a": {"k": 1},
        "b": {"k": 1},
        "c": {"k": 1, "m": 2},
    }
    assert parse_value("") is None
    assert parse_value("3e-4") == 0.0003
    with pytest.raises(yaml.YAMLError):
        parse_value("[1, 2")


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero", "/tmp"])
def test_what_is_no_regular_file_is_not_read(path: str) -> None:
    with pytest.raises(ConfigError, match="is not a regular file"):
        read_mapping(Path(path))


@pytest.mark.parametrize(
    "change",
    [
        "sft.steps=1e20",
        "sft.steps=100000000000000000000",
        "rl.steps=1000000000",
        "rl.groups_per_step=1000000000",
        "rl.samples_per_group=1000000000",
        "engine.num_engines=1000000000",
        "engine.hang_seconds=.inf",
        "engine.start_seconds=1e300",
        "protocol.budgets.seconds=.inf",
        "protocol.budgets.grace_seconds=.inf",
        "protocol.budgets.depth=1000000000",
        "protocol.budgets.total_tokens=1000000000000000",
        "protocol.child_tokens=1000000000",
        "rewards=[{name: correct, correct: 1.0e+308, wrong: -1.0e+308}]",
        "rewards=[{name: correct, schedule: {kind: annealed, steps: 1000000000000}}]",
        "task.train_problems=1000000000",
        "model.num_layers=1000000000",
        "model.max_length=1000000000000",
        "seed=" + "9" * 5000,
        "rl.steps=" + "[" * 5000,
        "rl.steps=&a [*a]",
        "=3",
        "rl..steps=3",
    ],
)
def test_a_hostile_change_is_refused_at_once(change: str) -> None:
    began = time.process_time()
    with pytest.raises(ConfigError) as error:
        load_recipe(CPU, [change])
    assert time.process_time() - began < 2
    text = str(error.value)
    assert str(CPU) in text and change[:60] in text and "fix: " in text and len(text) < 1500


def unbounded(schema: Any, key: str = "") -> list[str]:
    """Numbers of a JSON schema without a smallest or a largest value."""
    if isinstance(schema, list):
        return [found for part in schema for found in unbounded(part, key)]
    if not isinstance(schema, dict):
        return []
    bounds = [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")]
    is_number = schema.get("type") in ("integer", "number") and "enum" not in schema
    own = [key] if is_number and not all(schema.keys() & pair for pair in bounds) else []
    return own + [found for name, part in schema.items() for found in unbounded(part, f"{key}.{name}")]


def test_every_number_of_a_recipe_is_bounded_on_both_sides() -> None:
    assert unbounded({"a": {"type": "integer", "minimum": 0}}) == [".a"]
    assert unbounded(Recipe.model_json_schema()) == []


@pytest.mark.parametrize(
    ("directory", "reason"),
    [
        (".", "must lie inside the run directory"),
        ("''", "must lie inside the run directory"),
        ("../x", "must lie inside the run directory"),
        ("/abs", "must lie inside the run directory"),
        ("start", "start belongs to the run itself"),
        ("stages/rl/model", "stages belongs to the run itself"),
        ("ledger.sqlite", "ledger.sqlite belongs to the run itself"),
        ("ledger.sqlite-wal", "ledger.sqlite-wal belongs to the run itself"),
        (".hidden", ".hidden belongs to the run itself"),
        ('"a\\0b"', "cannot be printed"),
        ('"a\\eb"', "cannot be printed"),
        ("x" * 201, "longer than 200 bytes"),
    ],
)
def test_an_export_keeps_clear_of_the_run(directory: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"export.directory = .*{reason}"):
        load_recipe(CPU, [f"export.directory={directory}"])


def test_two_exports_need_two_folders(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    second = "  - {name: again, kind: export, checkpoint: sft, directory: export/inner}\n"
    recipe.write_text(CPU.read_text() + second)
    with pytest.raises(ConfigError, match="stage 'export' exports there already"):
        load_recipe(recipe)
    assert load_recipe(recipe, ["again.directory=inner"]).stage("again").name == "again"


@pytest.mark.parametrize("name", ["start", "run"])
def test_a_stage_has_no_name_that_the_run_uses(name: str) -> None:
    with pytest.raises(ConfigError, match="is a name that Braid uses itself"):
        load_recipe(CPU, [f"export.name={name}"])


def test_a_key_from_a_file_cannot_command_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rl.cli import main

    path = tmp_path / "recipe.yaml"
    path.write_text('"\\e[31mred": 1\n')
    assert main(["check", str(path)]) == 2
    assert r"\x1b[31mred = 1" in capsys.readouterr().err
