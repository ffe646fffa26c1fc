"""Adapters in the learner's model against a plain model with the merged weights."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from data.errors import ConfigError
from data.forests.collate import ForestBatch, collate
from data.forests.forest import build_forest
from data.forests.rows import Row
from rl.config.lora import Lora
from rl.learner.logprobs import forest_logprobs
from rl.learner.lora import (
    ADAPTER_FILE,
    adapter_tensors,
    add_adapters,
    load_adapters,
    merged_weights,
)
from rl.learner.model import load_model, publishable_weights
from rl.learner.optimizer import OPTIMIZERS
from rl.learner.snapshot import MODEL_FILE, Snapshot

CONFIG = Lora(rank=4, alpha=6.0)
"""Scaling 1.5: neither 1, where it could be forgotten, nor a power of two."""


def save_adapted(model: Any, directory: Path) -> None:
    """As a checkpoint holds it: merged weights, and the adapters beside them."""
    tensors = {MODEL_FILE: merged_weights(model), ADAPTER_FILE: adapter_tensors(model)}
    Snapshot.of(model, tensors).write(directory)


def adapted(model_dir: Path, config: Lora = CONFIG, seed: int = 0) -> Any:
    model = load_model(model_dir)
    add_adapters(model, config, seed=seed)
    return model


def learned(model_dir: Path, config: Lora = CONFIG, seed: int = 1) -> Any:
    """An adapted model whose B is no longer zero; seldom a forward pass is nearer to its base than 0.1."""
    model = adapted(model_dir, config)
    generator = torch.Generator().manual_seed(seed)
    tensors = adapter_tensors(model)
    for name, tensor in tensors.items():
        if ".lora_B." in name:
            tensors[name] = 0.3 * torch.randn(tensor.shape, generator=generator)
    load_adapters(model, tensors)
    return model


def batch() -> ForestBatch:
    """Five rows that share a beginning."""
    rng = random.Random(3)
    ids = [(5, 6, 7, *(rng.randrange(2, 60) for _ in range(9))) for _ in range(5)]
    return collate(build_forest([Row(ids=row, first=4, weights=(1.0,) * 8) for row in ids]))


@torch.no_grad()
def logprobs(model: Any) -> torch.Tensor:
    return forest_logprobs(model, batch())[0]


@pytest.fixture(scope="module", params=["tied qwen3", "untied llama", "qwen2 with biases"])
def model_dir(
    request: pytest.FixtureRequest, tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Every way in which a layer's neighbours are named in a checkpoint."""
    if request.param == "tied qwen3":
        return tiny_model_dir
    shape = {
        "vocab_size": 64,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 48,
        "initializer_range": 0.3,
        "tie_word_embeddings": False,
    }
    torch.manual_seed(0)
    if request.param == "untied llama":
        model: Any = LlamaForCausalLM(LlamaConfig(**shape, bos_token_id=None, eos_token_id=1))
    else:
        model = Qwen2ForCausalLM(Qwen2Config(**shape, bos_token_id=None, eos_token_id=1))
        for layer in model.model.layers:
            torch.nn.init.normal_(layer.self_attn.q_proj.bias)
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    return folder


def test_a_new_adapter_changes_nothing(model_dir: Path) -> None:
    """Exactly, in what is computed and in what is published."""
    model, base = adapted(model_dir), load_model(model_dir)
    assert torch.equal(logprobs(model), logprobs(base))
    merged, plain = merged_weights(model), publishable_weights(base)
    assert merged.keys() == plain.keys()
    assert all(torch.equal(merged[name], plain[name]) for name in plain)


def test_the_model_computes_what_its_merged_weights_do(model_dir: Path) -> None:
    model, plain = learned(model_dir), load_model(model_dir)
    plain.load_state_dict(merged_weights(model), strict=False)
    plain.tie_weights()
    found = logprobs(model)
    torch.testing.assert_close(found, logprobs(plain), atol=1e-5, rtol=1e-5)
    assert (found - logprobs(load_model(model_dir))).abs().max() > 0.1, "the adapters act"


def test_merged_weights_by_hand(tiny_model_dir: Path) -> None:
    """W + (alpha / rank) B A, one entry written out; what has no adapter stays."""
    model = learned(tiny_model_dir)
    path = "model.layers.1.mlp.down_proj"
    tensors, base, merged = (
        adapter_tensors(model),
        load_model(tiny_model_dir).state_dict(),
        merged_weights(model),
    )
    a, b = tensors[f"{path}.lora_A.weight"], tensors[f"{path}.lora_B.weight"]
    assert (a.shape, b.shape) == ((4, 128), (64, 4))
    product = sum(float(b[7, k]) * float(a[k, 11]) for k in range(4))
    expected = float(base[f"{path}.weight"][7, 11]) + 1.5 * product
    assert float(merged[f"{path}.weight"][7, 11]) == pytest.approx(expected, abs=1e-6)
    changed = {name for name in merged if not torch.equal(merged[name], base[name])}
    assert changed == {name.replace("lora_A.", "") for name in tensors if ".lora_A." in name}


def test_a_saved_model_is_a_plain_one(model_dir: Path, tmp_path: Path) -> None:
    """transformers loads the checkpoint of an adapted model as any other, and computes the same."""
    model = learned(model_dir)
    save_adapted(model, tmp_path)
    found, info = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    merged, loaded = merged_weights(model), publishable_weights(found)
    assert merged.keys() == loaded.keys() == load_file(tmp_path / "model.safetensors").keys()
    assert all(torch.equal(merged[name], loaded[name]) for name in merged)
    torch.testing.assert_close(logprobs(load_model(tmp_path)), logprobs(model), atol=1e-5, rtol=1e-5)


def test_only_adapters_learn(tiny_model_dir: Path) -> None:
    model = adapted(tiny_model_dir)
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(names) == 2 * 7 * 2  # A and B of seven layers of two blocks
    assert all(".lora_A." in name or ".lora_B." in name for name in names)
    forest_logprobs(model, batch())[0].sum().backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert moved == {name for name in names if ".lora_B." in name}, "A has no gradient while B is zero"
    model = learned(tiny_model_dir)
    forest_logprobs(model, batch())[0].sum().backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert moved == names


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_optimizers_move_adapters_alone(tiny_model_dir: Path, name: str) -> None:
    model = learned(tiny_model_dir)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = OPTIMIZERS[name](model.named_parameters(), lr=1e-2, weight_decay=0.1)
    forest_logprobs(model, batch())[0].sum().backward()
    optimizer.step()
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {key for key in before if ".lora_" in key}


def test_checkpointed_layers_give_the_same_gradients(tiny_model_dir: Path) -> None:
    """Nothing in front of the first adapter asks for a gradient; layers must not be left out for that."""
    gradients = []
    for checkpointing in (False, True):
        model = learned(tiny_model_dir).train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        forest_logprobs(model, batch())[0].sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_the_seed_alone_decides_the_start(tiny_model_dir: Path) -> None:
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first = adapter_tensors(adapted(tiny_model_dir))
    assert torch.equal(torch.random.get_rng_state(), state), "others draw what they would have drawn"
    torch.manual_seed(6)
    again, other = adapter_tensors(adapted(tiny_model_dir)), adapter_tensors(adapted(tiny_model_dir, seed=1))
    for name, tensor in first.items():
        assert torch.equal(again[name], tensor)
        if ".lora_B." in name:
            assert not tensor.any()
        else:
            assert not torch.equal(other[name], tensor)
            bound = tensor.shape[1] ** -0.5
            assert 0.9 * bound < tensor.abs().max() <= bound
            assert tensor.mean().abs() < 0.2 * bound


def test_adapters_come_back_bit_for_bit(tiny_model_dir: Path, tmp_path: Path) -> None:
    model = learned(tiny_model_dir)
    save_adapted(model, tmp_path)
    other = adapted(tiny_model_dir, seed=9)
    assert not torch.equal(logprobs(other), logprobs(model))
    load_adapters(other, load_file(tmp_path / ADAPTER_FILE))
    one, two = adapter_tensors(model), adapter_tensors(other)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.equal(logprobs(other), logprobs(model))


def test_tensors_of_other_adapters_are_refused(tiny_model_dir: Path) -> None:
    model = learned(tiny_model_dir)
    before = logprobs(model)
    for other in (Lora(rank=2), Lora(rank=4, targets=("q_proj",))):
        with pytest.raises(ConfigError, match=r"do not match this model, .*lora\.rank, lora\.targets"):
            load_adapters(model, adapter_tensors(adapted(tiny_model_dir, other)))
    assert torch.equal(logprobs(model), before)


@pytest.mark.parametrize(
    ("targets", "paths"),
    [
        (
            ("q_proj", "up_proj"),
            ["0.mlp.up_proj", "0.self_attn.q_proj", "1.mlp.up_proj", "1.self_attn.q_proj"],
        ),
        (("layers.1.self_attn.o_proj",), ["1.self_attn.o_proj"]),
        (("model.layers.0.mlp.down_proj", "down_proj"), ["0.mlp.down_proj", "1.mlp.down_proj"]),
    ],
)
def test_targets_are_names_or_ends_of_paths(
    tiny_model_dir: Path, targets: tuple[str, ...], paths: list[str]
) -> None:
    tensors = adapter_tensors(adapted(tiny_model_dir, Lora(rank=1, targets=targets)))
    expected = [f"model.layers.{path}.lora_{x}.weight" for path in paths for x in "AB"]
    assert sorted(tensors) == expected


@pytest.mark.parametrize("bad", ["query", "lm_head", "embed_tokens", "proj", "self_attn"])
def test_a_target_that_names_no_layer_is_refused(model_dir: Path, bad: str) -> None:
    """lm_head too, tied or not: its adapter would not be seen. The model is left as it was."""
    model = load_model(model_dir)
    names = "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
    with pytest.raises(
        ConfigError, match=rf"lora\.targets: {bad}: the model has no such linear layer; choose from {names}$"
    ):
        add_adapters(model, Lora(targets=("q_proj", bad)), seed=0)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any("lora" in name for name in model.state_dict())


@pytest.mark.parametrize("bad", [{"rank": 0}, {"alpha": 0.0}, {"targets": ()}, {"dropout": 0.1}])
def test_settings_that_cannot_work_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Lora.model_validate(bad)
    assert Lora().scaling == 2.0
