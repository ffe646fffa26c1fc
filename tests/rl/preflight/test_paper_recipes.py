"""Recipes at the size of their papers: checked against a directory without weights, and planned."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from qwen_lab import COUNTDOWN_PAPERS, PAPERS, RECIPES, SEARCHES, SHAPES, with_local_rows, without_weights
from recipe_lab import write

from data.errors import ConfigError
from rl import cli
from rl.config import load_recipe
from rl.preflight.check import ensure_runnable, ensure_shapes, render
from rl.preflight.sizes import device_memory

pytestmark = [pytest.mark.slow, pytest.mark.long]

ALL = (*PAPERS, *COUNTDOWN_PAPERS, "prm_lessons")
GPU_GIB = 79
"""Free memory of a GPU that is sold as one of 80 GB, which all comments promise, in GiB."""
LIKE_NPR = ("spark", "spct")
"""Recipes with the model and the rows of npr: what these say of them is not asked again."""
CONTEXT_GIB = 5
"""Memory for CUDA's context, kernels and fragments."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all models without weights."""
    folder = tmp_path_factory.mktemp("models")
    for name in SHAPES:
        without_weights(folder, name)
    return folder


def recipe_file(name: str, models: Path, tmp_path: Path) -> Path:
    own = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    whole = own if "model" in own else yaml.safe_load((RECIPES / own["base"]).read_text())
    published = Path(whole["model"]["path"]).name
    return write(tmp_path, with_local_rows(name, tmp_path, models / published))


def gigabytes(found: str) -> float:
    """The first figure of a line on memory."""
    return float(found.removeprefix("about ").split()[0])


@pytest.mark.parametrize("name", [name for name in ALL if name not in LIKE_NPR])
def test_a_recipe_is_checked_without_weights_and_fits_its_hardware(
    name: str, models: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(recipe_file(name, models, tmp_path))
    findings = ensure_shapes(recipe)
    held = [found for found in findings if found.about == "engine memory" or "a rank" in found.found]
    assert len(held) == 1 + len(recipe.training_stages())
    most = max(gigabytes(found.found) for found in held)
    shared = sum(gigabytes(found.found) for found in held) if name == "grpo_gsm8k" else most
    assert 10 < shared < GPU_GIB - CONTEXT_GIB, held
    text = render(recipe, findings, shapes=True)
    assert "is right, weights and machine not looked at" in text and "first prompt" in text
    header = (RECIPES / f"{name}.yaml").read_text().split("name: ")[0]
    assert "of 80 GB" in header and f"braid train recipes/{name}.yaml" in header


@pytest.mark.parametrize("name", LIKE_NPR)
def test_a_recipe_fits_its_hardware(name: str, models: Path, tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(name, models, tmp_path))
    assert recipe.model == load_recipe(recipe_file("npr", models, tmp_path)).model.model_copy(
        update={"max_length": recipe.model.max_length}
    )
    held = [gigabytes(found.found) for found in device_memory(recipe)]
    assert len(held) == 1 + len(recipe.training_stages())
    assert 10 < max(held) < GPU_GIB - CONTEXT_GIB, held
    header = (RECIPES / f"{name}.yaml").read_text().split("name: ")[0]
    assert "of 80 GB" in header and f"braid train recipes/{name}.yaml" in header


@pytest.mark.parametrize("name", [name for name in SEARCHES if name != "prm_lessons"])
def test_a_search_has_model_rows_and_scorer_of_the_prm_lessons(
    name: str, models: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(recipe_file(name, models, tmp_path))
    base = load_recipe(recipe_file("prm_lessons", models, tmp_path))
    assert (recipe.model, recipe.engine, recipe.scorer) == (base.model, base.engine, base.scorer)
    assert [stage.name for stage in recipe.training_stages()] == ["prm"]
    assert all(stage.kind == "eval" for stage in recipe.stages[3:])
    header = (RECIPES / f"{name}.yaml").read_text().split("name: ")[0]
    assert "of 80 GB" in header and f"braid train recipes/{name}.yaml" in header


def test_what_lacks_weights_does_not_run(models: Path, tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file("grpo_gsm8k", models, tmp_path))
    with pytest.raises(ConfigError, match=r"holds no \*\.safetensors"):
        ensure_runnable(recipe)


@pytest.mark.parametrize("name", [name for name in ALL if name not in (*LIKE_NPR, "thinkprm", "prm_lessons")])
def test_a_recipe_is_planned(name: str, models: Path, tmp_path: Path, capsys: Any) -> None:
    recipe = recipe_file(name, models, tmp_path)
    options = [
        "--decode-ms",
        "20",
        "0.05",
        "--learner-tokens-per-s",
        "10000",
        "--steps",
        "3",
        "--staleness",
        "0",
        "1",
    ]
    options += ["--episode", "3000", "1500", "--episode", "2000", "1900"]
    assert cli.main(["plan", str(recipe), *options]) == 0
    printed = capsys.readouterr().out
    assert "engine memory: about" in printed and "a rank (" in printed and "<- best" in printed
