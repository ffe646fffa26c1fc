"""A run whose protocol, task and reward term are all a user's own: every process loads them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from extension_lab import doubles, second_opinion

from data.episodes.topology import total_tokens
from data.episodes.wire import read_episodes

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(400)]
RECIPE: dict[str, Any] = {
    "name": "own",
    "extensions": ["doubles.py", "second_opinion.py"],
    "task": {"name": "doubles", "train_problems": 15, "validation_problems": 2, "test_problems": 4},
    "model": {
        "kind": "scratch", "hidden_size": 64, "num_layers": 2, "num_heads": 2, "num_kv_heads": 2,
        "head_dim": 32, "intermediate_size": 128, "max_length": 256, "numbers": 99,
    },
    "protocol": {"name": "second_opinion", "max_tokens": 24},
    "rewards": [{"name": "correct"}, {"name": "brevity", "free": 4}],
    "engine": {"device": "cpu", "kv_cache_gb": 0.05, "max_live_calls": 64},
    "stages": [
        {"name": "sft", "kind": "sft", "steps": 30, "tokens_per_step": 512, "forest_tokens": 256,
         "learning_rate": 0.004, "warmup_steps": 3, "demonstrations": 60, "keep_engines": True},
        {"name": "rl", "kind": "rl", "steps": 2, "groups_per_step": 2, "samples_per_group": 4,
         "learning_rate": 0.0001, "forest_tokens": 512, "drop_zero_variance": False, "warmup_steps": 0},
        {"name": "export", "kind": "export", "checkpoint": "rl"},
    ],
}  # fmt: skip


def test_two_updates_with_a_protocol_a_task_and_a_term_of_extensions(braid: Any, tmp_path: Path) -> None:
    own, folder = doubles(tmp_path), tmp_path / "run"
    second_opinion(tmp_path)
    recipe = tmp_path / "own.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    braid.complete(braid.train(recipe, folder, ()))
    scores: dict[str, Any] = {}
    for path in (folder / "stages/rl/record").glob("*.scores.json"):
        scores |= json.loads(path.read_text())["scores"]
    paths = sorted((folder / "stages/rl/record").glob("*.episodes.jsonl.gz"))
    episodes = [episode for path in paths for episode in read_episodes(path)]
    assert len(episodes) == 16 and {episode.protocol for episode in episodes} == {"second_opinion"}
    assert any(len(episode.threads) == 2 for episode in episodes)
    for episode in episodes:
        charge = -0.01 * max(0, total_tokens(episode) - 4)
        assert scores[episode.id]["parts"]["brevity"] == pytest.approx(charge)
    described = json.loads((folder / "export/protocol.json").read_text())
    assert set(described["extensions"]) == {"000_doubles.py", "001_second_opinion.py"}
    assert described["rules"].startswith("A second thread sees the problem")
    assert described["extensions"]["000_doubles.py"] in (folder / "export/README.md").read_text()
    own.write_text(own.read_text() + "\n# changed\n")
    command = braid.train(recipe, folder, ())
    assert command.wait() == 2 and "doubles.py has other content" in command.output
