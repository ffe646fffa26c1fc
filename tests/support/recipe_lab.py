"""A small recipe that is right, and what a wrong one is told."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from data.errors import ConfigError
from rl.config import Recipe, load_recipe
from rl.config.stages import RlStage

TINY = (
    "task.train_problems=200",
    "task.validation_problems=8",
    "task.test_problems=12",
    "model.hidden_size=64",
    "model.num_layers=2",
    "model.num_heads=2",
    "model.num_kv_heads=2",
    "model.intermediate_size=128",
    "engine.device=cpu",
    "engine.kv_cache_gb=0.05",
    "engine.max_live_calls=64",
    "sft.steps=60",
    "sft.tokens_per_step=1024",
    "sft.forest_tokens=512",
    "sft.demonstrations=800",
    "sft.warmup_steps=5",
    "sft.precision=float32",
    "sft.num_ranks=1",
    "rl.steps=4",
    "rl.groups_per_step=4",
    "rl.minibatches=2",
    "rl.drop_zero_variance=true",
    "rl.samples_per_group=4",
    "rl.warmup_steps=0",
    "rl.learning_rate=1e-3",
    "rl.checkpoint_every=1",
    "rl.keep_checkpoints=100",
    "rl.validate_every=2",
    # So little training solves nothing, but it breaks the protocol now and then: that is signal enough.
    "rewards=[{name: correct, correct: 1.0, wrong: -0.5, none: 0.0}, {name: format, penalty: 0.2}]",
)
"""A whole run of any shipped recipe in seconds: two layers, four steps, the same code."""
SMALL: dict[str, Any] = {
    "name": "small",
    "task": {"name": "countdown", "train_problems": 100, "validation_problems": 10, "test_problems": 10},
    "model": {
        "kind": "scratch", "hidden_size": 64, "num_layers": 2, "num_heads": 2, "num_kv_heads": 2,
        "head_dim": 32, "intermediate_size": 128, "max_length": 256,
    },
    "protocol": {"name": "spawn_join", "parent_tokens": 80, "child_tokens": 60},
    "rewards": [{"name": "correct"}, {"name": "format"}],
    "stages": [
        {"name": "sft", "kind": "sft", "steps": 100, "tokens_per_step": 1024, "forest_tokens": 256,
         "learning_rate": 0.01, "demonstrations": 100},
        {"name": "rl", "kind": "rl", "steps": 4, "groups_per_step": 4, "samples_per_group": 2,
         "learning_rate": 0.001, "forest_tokens": 256},
        {"name": "eval", "kind": "eval", "checkpoints": ["sft", "rl"]},
        {"name": "export", "kind": "export", "checkpoint": "rl"},
    ],
}  # fmt: skip


def write(folder: Path, content: Any, name: str = "r.yaml") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def message(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, overrides)
    return str(caught.value)


def one_stage(folder: Path, rewards: Sequence[Any], **stage: Any) -> tuple[Recipe, RlStage]:
    """SMALL with these rewards and this stage `rl` in place of its own. -> (recipe, stage)."""
    rl = {"name": "rl", "kind": "rl", "learning_rate": 1e-3, "forest_tokens": 64, **stage}
    changes = {"rewards": rewards, "stages": [SMALL["stages"][0], rl]}
    recipe = load_recipe(write(folder, SMALL | changes), ())
    found = recipe.stage("rl")
    assert isinstance(found, RlStage)
    return recipe, found
