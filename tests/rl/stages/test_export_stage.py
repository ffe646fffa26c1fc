"""Exports of a run: of the initial weights, and never of weights that are not what was written."""

import json
from pathlib import Path

import pytest

from data.errors import ConfigError
from rl.config import load_recipe
from rl.config.codec import make_codec
from rl.runtime.rank_worker import build_start
from rl.stages.export import export
from rl.storage.checksums import damage, write_checksums
from rl.storage.run_directory import RunDirectory

CPU = Path(__file__).parents[3] / "recipes" / "countdown_cpu.yaml"
SMALL = (
    "model.hidden_size=32", "model.num_layers=1", "model.num_heads=2", "model.num_kv_heads=1",
    "model.intermediate_size=32",
)  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run in which nothing is trained yet."""
    recipe = load_recipe(CPU, SMALL)
    directory = RunDirectory(tmp_path / "run")
    directory.open(recipe)
    make_codec(recipe).save(directory.start)
    build_start(recipe.model, directory.start, directory.start, 0)
    write_checksums(directory.start)
    return directory.path


def test_the_initial_weights_are_exported_as_a_baseline(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "baseline"
    export(run, "start", out)
    assert (out / "model.safetensors").read_bytes() == (run / "start" / "model.safetensors").read_bytes()
    assert damage(out) is None
    card = (out / "README.md").read_text()
    assert "It was not trained: these are random weights" in card and "1. sft" not in card
    assert "spawn" in json.dumps(json.loads((out / "protocol.json").read_text())["tags"])


def test_weights_that_are_damaged_or_missing_are_not_exported(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'rl' has no final weights yet"):
        export(run, None, tmp_path / "out")
    with pytest.raises(ConfigError, match="no such trained stage; there are start, sft, rl"):
        export(run, "nothing", tmp_path / "out")
    weights = run / "start" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ConfigError, match=r"model\.safetensors is not what was written\n  fix: "):
        export(run, "start", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content", ["", "[]", "3", '{"arms": 3}', '{"arms": {"spawn_join": 3}}', "[" * 100_000]
)
def test_a_garbage_summary_is_one_message(run: Path, tmp_path: Path, content: str) -> None:
    (run / "summary.json").write_text(content)
    with pytest.raises(ConfigError, match=r"summary\.json: .*\n  fix: evaluate the run again"):
        export(run, "start", tmp_path / "out")
