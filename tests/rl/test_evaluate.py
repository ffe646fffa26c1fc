"""`braid eval`: refusals that come before any process is started."""

from pathlib import Path

import pytest
from recipe_lab import SMALL, write

from data.errors import ConfigError
from rl.config import load_recipe
from rl.config.stages import MAX_STAGE_NAME
from rl.evaluate import _short, evaluate
from rl.storage.checksums import write_checksums
from rl.storage.run_directory import RunDirectory


def a_run(tmp_path: Path) -> Path:
    """A run directory with initial weights, of no content."""
    directory = RunDirectory(tmp_path / "run")
    directory.open(load_recipe(write(tmp_path, SMALL)))
    directory.start.mkdir()
    (directory.start / "config.json").write_text("{}")
    write_checksums(directory.start)
    return directory.path


def test_what_cannot_be_evaluated_is_refused_by_option(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    with pytest.raises(ConfigError, match=r"--checkpoint best: .* there are start, sft, rl"):
        evaluate(run, "best")
    with pytest.raises(ConfigError, match="stage 'rl' has no final weights"):
        evaluate(run, "rl")
    with pytest.raises(ConfigError, match="--samples 1000000000: Input should be less than"):
        evaluate(run, "start", samples=10**9)
    with pytest.raises(ConfigError, match="protocol 'nosuch'"):
        evaluate(run, "start", protocol="nosuch")


def test_names_of_evaluations_fit_and_differ() -> None:
    short = "eval_rl_spawn_join_test_8"
    assert _short(short) == short
    long = [f"eval_{'x' * 40}_outlined_threads_validation_{samples}" for samples in (1, 16)]
    assert len({_short(name) for name in long}) == 2
    assert all(len(_short(name)) == MAX_STAGE_NAME for name in long)
