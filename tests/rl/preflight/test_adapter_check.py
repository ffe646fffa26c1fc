"""`braid check` knows the layers that can have adapters, before any weight is loaded."""

import copy
from pathlib import Path
from typing import Any

import pytest
from recipe_lab import SMALL, write

from data.errors import ConfigError
from rl.config import Recipe, load_recipe
from rl.learner.attention.exactness import check_exactness
from rl.learner.lora import linear_layers
from rl.learner.model import build_model
from rl.preflight.adapter_check import check_adapters, scratch_layers
from rl.preflight.check import ensure_runnable


def recipe(tmp_path: Path, stage: int, **changes: Any) -> Recipe:
    content = copy.deepcopy(SMALL)
    content["stages"][stage].update(changes)
    return load_recipe(write(tmp_path, content))


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_layers_of_a_model_from_random_weights(tmp_path: Path, architecture: str) -> None:
    content = copy.deepcopy(SMALL)
    content["model"]["architecture"] = architecture
    config: Any = load_recipe(write(tmp_path, content)).model
    built = build_model(config, vocabulary=64, pad=0, eos=0, seed=0)
    assert sorted(scratch_layers(config)) == sorted(linear_layers(built))


def test_layers_of_a_directory_are_those_of_its_full_size(tiny_model_dir: Path) -> None:
    layers = check_exactness(tiny_model_dir, 1024).layers
    assert len(layers) == 2 * 7 and "model.layers.1.mlp.down_proj" in layers
    assert not any("lm_head" in path for path in layers)


@pytest.mark.parametrize("stage, changes, key", [
    (0, {"lora": {"targets": ["q_proj", "query"]}}, "sft.lora.targets"),
    (1, {"lora": {"targets": ["layers.2.self_attn.q_proj"]}}, "rl.lora.targets"),
    (1, {"algorithm": {"name": "prime", "implicit": {"lora": {"targets": ["q"]}}}},
     "rl.algorithm.implicit.lora.targets"),
])  # fmt: skip
def test_a_layer_that_the_model_lacks(tmp_path: Path, stage: int, changes: Any, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ensure_runnable(recipe(tmp_path, stage, **changes))
    text = str(caught.value)
    assert key in text and "has no linear layer" in text and "k_proj" in text
    assert "q_proj, " not in text.split("fix")[0].split("linear layer")[1]


@pytest.mark.parametrize("target", ["q_proj", "self_attn.o_proj", "model.layers.1.mlp.up_proj"])
def test_a_name_or_the_end_of_a_path_is_found(tmp_path: Path, target: str) -> None:
    made = recipe(tmp_path, 1, lora={"targets": [target]})
    check_adapters(made, scratch_layers(made.model))  # type: ignore[arg-type]
