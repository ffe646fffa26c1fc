"""Rows of one's own and ten lines of YAML: what `braid check` shows of them, for three protocols."""

from collections.abc import Callable
from pathlib import Path

import pytest
from own_data import gsm8k_rows, write_rows

from rl.config import load_recipe
from rl.config.codec import make_codec
from rl.preflight.dataset_check import check_datasets

PROTOCOLS = {
    "self_consistency": "chains: 2, chain_tokens: 24",
    "parallel_paths": "main_tokens: 24, path_tokens: 24, summary_tokens: 24",
    "spawn_join": "parent_tokens: 24, child_tokens: 24",
}
BEFORE, BEHIND = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
Make = Callable[[str], Path]


@pytest.fixture
def own(tmp_path: Path, smollm2: Path) -> Make:
    """A function that writes 200 rows in GSM8K's layout and a recipe for them with these stages."""

    def make(stages: str) -> Path:
        write_rows(tmp_path / "own.jsonl", gsm8k_rows(200))
        path = tmp_path / "own.yaml"
        path.write_text(
            f"""\
name: own
task: {{name: dataset, params: {{train: own.jsonl, test_percent: 10}}, verifier: gsm8k}}
model: {{kind: pretrained, path: {smollm2}, max_length: 512}}
engine: {{dtype: float32, kv_cache_gb: 0.1, max_live_calls: 16, device: cpu}}
protocol: {{name: self_consistency}}
rewards: [{{name: correct}}]
stages:
{stages}"""
        )
        return path

    return make


def stage(protocol: str) -> str:
    return (
        f"  - {{name: {protocol}, kind: rl, steps: 2, groups_per_step: 2, samples_per_group: 2, "
        "learning_rate: 1e-5, drop_zero_variance: false,\n     lora: {rank: 4}, "
        f"protocol: {{name: {protocol}, {PROTOCOLS[protocol]}}}}}\n"
    )


@pytest.mark.medium
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_check_shows_the_ids_of_the_chat_template(own: Make, protocol: str) -> None:
    """As `apply_chat_template(tokenize=True)` of the same tokenizer with the protocol's tags."""
    recipe = load_recipe(own(stage(protocol)))
    results = {result.about.strip(): result.found for result in check_datasets(recipe)}
    count, _, shown = results["first prompt"].partition(" ids: ")
    ids = [int(number) for number in shown.split()]
    assert int(count) == len(ids)
    tokenizer = make_codec(recipe).tokenizer
    text = tokenizer.decode(ids)
    assert text.endswith(BEHIND)
    content = text.partition(BEFORE)[2].removesuffix(BEHIND)
    assert any(content.startswith(row["question"]) for row in gsm8k_rows(200))
    turns = [{"role": "user", "content": content}]
    expected = tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    assert ids == expected
