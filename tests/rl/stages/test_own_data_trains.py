"""Rows of one's own and ten lines of YAML: three protocols train a chat model on them."""

import json
from pathlib import Path
from typing import Any

import pytest
from own_data import gsm8k_rows, write_rows

from rl.tracking.metrics import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(600)]

PROTOCOLS = {
    "self_consistency": "chains: 2, chain_tokens: 24",
    "parallel_paths": "main_tokens: 24, path_tokens: 24, summary_tokens: 24",
    "spawn_join": "parent_tokens: 24, child_tokens: 24",
}
RECIPE = """\
name: own
task: {{name: dataset, params: {{train: own.jsonl, test_percent: 10}}, verifier: gsm8k}}
model: {{kind: pretrained, path: {model}, max_length: 512}}
engine: {{dtype: float32, kv_cache_gb: 0.1, max_live_calls: 16, device: cpu}}
protocol: {{name: self_consistency}}
rewards: [{{name: correct}}]
stages:
"""
STAGE = """\
  - {{name: {name}, kind: rl, steps: 2, groups_per_step: 2, samples_per_group: 2, learning_rate: 1e-5,
     drop_zero_variance: false, lora: {{rank: 4}}, protocol: {{name: {name}, {limits}}}}}
"""


def test_three_protocols_train_on_own_rows(tiny_chat_model: Path, braid: Any, tmp_path: Path) -> None:
    write_rows(tmp_path / "own.jsonl", gsm8k_rows(200))
    recipe, run = tmp_path / "own.yaml", tmp_path / "run"
    stages = [STAGE.format(name=name, limits=limits) for name, limits in PROTOCOLS.items()]
    recipe.write_text(RECIPE.format(model=tiny_chat_model) + "".join(stages))
    braid.complete(braid.train(recipe, run, ()))
    for name in PROTOCOLS:
        steps = [line for line in read_metrics(run / "metrics.jsonl", name) if line["step"] > 0]
        assert [line["step"] for line in steps] == [1, 2]
        assert all(line["tokens/sampled"] > 0 for line in steps)
        assert (run / "stages" / name / "done.json").is_file()
        assert (run / "stages" / name / "model" / "model.safetensors").is_file()
    counts = json.loads((run / "problems" / "dataset.json").read_text())
    assert counts["train"]["layout"] == "gsm8k"
