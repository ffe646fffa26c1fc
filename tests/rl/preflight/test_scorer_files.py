"""The directory of a scorer is looked at before anything starts."""

from pathlib import Path

import pytest
from recipe_lab import SMALL, write

from data.errors import ConfigError
from rl.config import load_recipe
from rl.preflight.memory import ModelShape
from rl.preflight.sizes import scorer_gb, shape_of
from tests.support.scorer_lab import truncated

REWARDS = [{"name": "correct"}, {"name": "process", "source": "scorer"}]


def needed(folder: Path, scorer: Path, target: str = "steps") -> float:
    """GiB for the scorer in this directory."""
    rewards = [REWARDS[0], REWARDS[1] | {"aggregate": "last"}]
    section = {"path": str(scorer), "target": target}
    recipe = load_recipe(write(folder, {**SMALL, "rewards": rewards, "scorer": section}))
    shape: ModelShape = shape_of(recipe)
    return scorer_gb(recipe, shape)


def test_a_whole_one_is_counted(tiny_scorer: Path, tmp_path: Path) -> None:
    assert needed(tmp_path, tiny_scorer) > 0


def test_a_truncated_one_is_refused_with_its_file(tiny_scorer: Path, tmp_path: Path) -> None:
    broken = truncated(tiny_scorer, tmp_path / "broken")
    with pytest.raises(
        ConfigError, match=r"(?s)scorer.path.*model.safetensors: is cut off.*fix: copy or save"
    ):
        needed(tmp_path, broken)


def test_one_of_the_other_kind_is_refused(tiny_scorer: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    for folder, target, kind in (
        (tiny_scorer, "outcome", r"Qwen3ForTokenClassification with 2 label\(s\), and target: outcome takes"),
        (tiny_model_dir, "steps", "Qwen3ForCausalLM"),
    ):
        with pytest.raises(ConfigError, match=rf"(?s)scorer\.path = .*is a {kind}.*set scorer\.target"):
            needed(tmp_path, folder, target)


def test_an_empty_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigError, match=r"(?s)scorer.path.*holds no config.json with \*.safetensors"):
        needed(tmp_path, tmp_path / "none")
