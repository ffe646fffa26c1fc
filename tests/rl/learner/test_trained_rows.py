"""Rows of added tags beside adapters: trained, merged, published and restored with them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from data.checksum import file_checksum
from data.errors import ConfigError
from data.forests.collate import ForestBatch, collate
from data.forests.forest import build_forest
from data.forests.rows import Row
from rl.config.lora import Lora
from rl.learner.logprobs import forest_logprobs
from rl.learner.lora import ADAPTER_FILE, adapter_tensors, add_adapters, load_adapters, merged_weights
from rl.learner.model import load_model, publishable_weights
from rl.learner.optimizer import OPTIMIZERS
from rl.learner.snapshot import MODEL_FILE, Snapshot
from rollout.engines.adapter_file import read_merged, with_rows, write_adapter_file
from rollout.engines.tensor_spec import read_metadata, read_specs
from rollout.engines.weight_file import find_problem

TAGS = (62, 60)
CONFIG = Lora(rank=2, alpha=3.0, targets=("q_proj",))


@pytest.fixture(scope="module", params=["tied", "untied"])
def model_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
            intermediate_size=48, initializer_range=0.3, tie_word_embeddings=request.param == "tied",
            bos_token_id=None, eos_token_id=1,
        )
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    return folder


def adapted(model_dir: Path) -> Any:
    model = load_model(model_dir)
    add_adapters(model, CONFIG, seed=0, tag_ids=TAGS)
    return model


def batch() -> ForestBatch:
    """Tags as context, as target, and as neither."""
    rows = [(5, 62, 7, 8, 60, 9), (5, 62, 7, 62, 11, 60), (5, 6, 7, 8, 9, 10)]
    return collate(build_forest([Row(ids=row, first=2, weights=(1.0,) * 4) for row in rows]))


def trained(model_dir: Path, steps: int = 3) -> Any:
    """After a few updates."""
    model = adapted(model_dir)
    optimizer = OPTIMIZERS["adamw"](model.named_parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(steps):
        (-forest_logprobs(model, batch())[0].sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def test_rows_in_place_by_hand() -> None:
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    found = with_rows(weight, torch.tensor([[7.0, 8.0], [9.0, 0.5]]), torch.tensor([2, 0]))
    assert found.tolist() == [[9.0, 0.5], [3.0, 4.0], [7.0, 8.0]]
    assert weight[2].tolist() == [5.0, 6.0]


def test_at_first_nothing_changes(model_dir: Path) -> None:
    model, base = adapted(model_dir), load_model(model_dir)
    found, expected = forest_logprobs(model, batch())[0], forest_logprobs(base, batch())[0]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0.0)  # two matrix products instead of one
    merged, plain = merged_weights(model), publishable_weights(base)
    assert merged.keys() == plain.keys()
    assert all(torch.equal(merged[name], plain[name]) for name in plain)


def test_gradients_are_those_of_the_whole_table(model_dir: Path) -> None:
    """The rows get exactly what they would get if everything were trained."""
    model, base = adapted(model_dir), load_model(model_dir)
    forest_logprobs(model, batch())[0].sum().backward()
    forest_logprobs(base, batch())[0].sum().backward()
    embedding, output = base.get_input_embeddings().weight, base.get_output_embeddings().weight
    pairs = [(model.get_input_embeddings(), embedding)]
    if embedding is not output:
        pairs.append((model.get_output_embeddings(), output))
    for layer, whole in pairs:
        assert whole.grad is not None
        torch.testing.assert_close(
            layer.trained_rows.weight.grad, whole.grad[list(TAGS)], atol=1e-5, rtol=1e-5
        )


def test_tag_rows_alone_move_and_the_merged_model_computes_the_same(model_dir: Path) -> None:
    model, base = trained(model_dir), publishable_weights(load_model(model_dir))
    merged = merged_weights(model)
    assert merged.keys() == base.keys()
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in base:
            moved = (merged[name] != base[name]).any(dim=1).nonzero()[:, 0].tolist()
            assert moved == sorted(TAGS)
    assert not torch.equal(
        merged["model.layers.0.self_attn.q_proj.weight"], base["model.layers.0.self_attn.q_proj.weight"]
    )
    plain = load_model(model_dir)
    plain.load_state_dict(merged, strict=False)
    plain.tie_weights()
    expected = forest_logprobs(plain, batch())[0]
    torch.testing.assert_close(forest_logprobs(model, batch())[0], expected, atol=1e-5, rtol=1e-5)


def test_an_engine_reads_the_same_weights(model_dir: Path, tmp_path: Path) -> None:
    """What is published is bit for bit what is merged for a checkpoint; a wrong file is named."""
    model, path = trained(model_dir), tmp_path / "a.safetensors"
    tensors = adapter_tensors(model)
    write_adapter_file(path, tensors, base=model_dir, base_checksum="c", scaling=CONFIG.scaling)
    expected = read_specs(model_dir / "model.safetensors")
    assert find_problem(path, file_checksum(path), expected, "F32", lambda _: "c") is None
    merged = merged_weights(model)
    for name, tensor in read_merged(path, read_metadata(path), merged):
        assert torch.equal(tensor, merged[name]), name
    ids = "model.embed_tokens.trained_rows.ids"
    for wrong, reason in (
        ({ids: tensors[ids][:1]}, "model.embed_tokens has rows"),
        ({ids: tensors[ids].float()}, "has dtype F32, not I64"),
        ({"model.other.trained_rows.ids": tensors[ids].clone()}, "replaces no rows"),
    ):
        write_adapter_file(path, tensors | wrong, base=model_dir, base_checksum="c", scaling=1.5)
        problem = find_problem(path, file_checksum(path), expected, "F32", lambda _: "c")
        assert problem is not None and reason in problem


def test_rows_come_back_bit_for_bit(model_dir: Path, tmp_path: Path) -> None:
    model = trained(model_dir)
    tensors = {MODEL_FILE: merged_weights(model), ADAPTER_FILE: adapter_tensors(model)}
    Snapshot.of(model, tensors).write(tmp_path)
    other = adapted(model_dir)
    load_adapters(other, load_file(tmp_path / ADAPTER_FILE))
    assert torch.equal(forest_logprobs(other, batch())[0], forest_logprobs(model, batch())[0])
    without = load_model(model_dir)
    add_adapters(without, CONFIG, seed=0)
    with pytest.raises(ConfigError, match="the added tags must be what they were"):
        load_adapters(without, load_file(tmp_path / ADAPTER_FILE))
    swapped = load_model(model_dir)
    add_adapters(swapped, CONFIG, seed=0, tag_ids=TAGS[::-1])
    with pytest.raises(ConfigError, match=r"the first is .*trained_rows\.ids"):
        load_adapters(swapped, load_file(tmp_path / ADAPTER_FILE))
