"""What stands between a published file and the weights, and the settings, without starting an engine."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import xxhash
from safetensors.torch import save_file

from data.checksum import file_checksum
from data.errors import ConfigError
from rollout.engines.batch_invariant import (
    blocked_linear,
    choose_linear,
    is_row_invariant,
    padded_linear,
    trial_counts,
)
from rollout.engines.vllm_compat import environment
from rollout.engines.vllm_settings import VllmSettings, check_settings, kv_bytes_per_token, split_problem
from rollout.engines.weight_file import TensorSpec, find_problem, read_model_specs

EXPECTED = {"a": TensorSpec(shape=(2, 3), dtype="F32"), "b": TensorSpec(shape=(4,), dtype="F32")}


def tensors() -> dict[str, torch.Tensor]:
    return {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4)}


def problem_of(path: Path, changed: dict[str, torch.Tensor], serving: str = "F32") -> str | None:
    save_file(changed, path)
    return find_problem(path, file_checksum(path), EXPECTED, serving)


def test_checksum_is_of_all_bytes_whatever_the_size(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for content in (b"", b"braid", bytes(range(256)) * 10_000):  # more than is read at once
        path.write_bytes(content)
        assert file_checksum(path) == xxhash.xxh3_128_hexdigest(content)


def test_a_whole_file_has_no_problem(tmp_path: Path) -> None:
    assert problem_of(tmp_path / "w", tensors()) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("b"), "1 parameters are missing, the first is b"),
        (lambda t: t.update(c=torch.ones(1)), "unknown to the model, the first is c"),
        (lambda t: t.update(a=torch.ones(3, 2)), r"a has shape \(3, 2\), not \(2, 3\)"),
        (lambda t: t.update(b=torch.ones(4, dtype=torch.int32)), "b has dtype I32, not F32"),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path: Path, change, said: str) -> None:
    changed = tensors()
    change(changed)
    found = problem_of(tmp_path / "w", changed)
    assert found is not None
    assert re.search(said, found)


def test_the_serving_dtype_is_welcome_too(tmp_path: Path) -> None:
    half = {name: tensor.bfloat16() for name, tensor in tensors().items()}
    assert problem_of(tmp_path / "w", half, "BF16") is None
    assert "dtype BF16" in str(problem_of(tmp_path / "w", half, "F32"))


def test_float32_is_welcome_wherever_the_model_came_from(tmp_path: Path) -> None:
    """An engine that started from a bfloat16 directory takes the float32 model of a later stage."""
    save_file(tensors(), tmp_path / "w")
    started = {name: replace(spec, dtype="BF16") for name, spec in EXPECTED.items()}
    assert find_problem(tmp_path / "w", file_checksum(tmp_path / "w"), started, "BF16") is None


def test_a_changed_or_truncated_or_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w"
    save_file(tensors(), path)
    checksum = file_checksum(path)
    assert "checksum" in str(find_problem(path, "0" * 64, EXPECTED, "F32"))
    path.write_bytes(path.read_bytes()[:-4])
    assert "checksum" in str(find_problem(path, checksum, EXPECTED, "F32"))
    assert "not a valid safetensors" in str(find_problem(path, file_checksum(path), EXPECTED, "F32"))
    assert "cannot be read" in str(find_problem(tmp_path / "none", checksum, EXPECTED, "F32"))


def test_model_specs_join_shards(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, 3)}, tmp_path / "model-1.safetensors")
    save_file({"b": torch.zeros(4)}, tmp_path / "model-2.safetensors")
    assert read_model_specs(tmp_path) == EXPECTED
    with pytest.raises(ConfigError, match=r"no \.safetensors"):
        read_model_specs(tmp_path / "nowhere")


@pytest.mark.parametrize("product", [padded_linear, blocked_linear])
@pytest.mark.parametrize("shape", [(1, 8), (17, 8), (64, 8), (65, 8), (2, 3, 8)])
def test_invariant_products_multiply(product, shape: tuple[int, ...]) -> None:
    x, weight, bias = torch.randn(*shape), torch.randn(5, 8), torch.randn(5)
    torch.testing.assert_close(product(x, weight, bias), torch.nn.functional.linear(x, weight, bias))


@pytest.mark.parametrize("shape", [(384, 128), (128, 384), (128, 128)])
def test_the_chosen_product_is_row_invariant(shape: tuple[int, int]) -> None:
    weight = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    assert is_row_invariant(choose_linear(weight, 300), weight, [1, 2, 3, 15, 16, 17, 100, 299])


@pytest.mark.slow
def test_an_output_layer_of_a_real_vocabulary_is_row_invariant() -> None:
    """At row counts that were not tried, in seconds."""
    weight = torch.randn(32_832, 512, generator=torch.Generator().manual_seed(1))
    tried = trial_counts(weight.numel(), 2048)
    assert len(tried) == 15 and max(tried) == 257
    untried = [5, 20, 41, 100, 200]
    assert not set(untried) & set(tried)
    assert is_row_invariant(choose_linear(weight, 2048), weight, untried)


def test_row_counts_of_smaller_weights() -> None:
    small, large = trial_counts(1 << 20, 2048), trial_counts((1 << 20) + 1, 2048)
    assert set(range(1, 81)) < set(large) and small == [*large, 2048]
    assert trial_counts(1 << 25, 20) == [1, 15, 16, 17, 20]


def test_a_product_that_depends_on_the_batch_is_found_out() -> None:
    weight = torch.randn(8, 8)

    def leaky(x, weight, bias):
        return torch.nn.functional.linear(x, weight, bias) + 1e-6 * x.shape[0]

    assert not is_row_invariant(leaky, weight, [1, 2])


@pytest.fixture
def settings(tmp_path: Path) -> VllmSettings:
    config = {
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "hidden_size": 128,
        "vocab_size": 128,
        "max_position_embeddings": 1024,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    return VllmSettings(model_dir=tmp_path, max_length=512, device="cpu")


def test_kv_bytes_by_hand(settings: VllmSettings) -> None:
    config = json.loads((settings.model_dir / "config.json").read_text())
    assert kv_bytes_per_token(config, "float32") == 2 * 4 * 2 * 32 * 4
    assert kv_bytes_per_token(config, "bfloat16") == 2 * 4 * 2 * 32 * 2


def test_good_settings_pass(settings: VllmSettings) -> None:
    check_settings(settings)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_length": 2048}, "engine.max_length: 2048 is more than the model's 1024"),
        ({"max_length": 1}, "engine.max_length"),
        ({"block_size": 16}, "engine.block_size: 16: the CPU kernel needs a multiple of 32"),
        ({"kv_cache_gb": 1e-4}, "engine.kv_cache_gb"),
        ({"kv_cache_gb": 1e6}, "engine.kv_cache_gb: 1000000.0 GiB .* do not fit"),
        ({"max_live_calls": 0}, "engine.max_live_calls"),
        ({"model_dir": Path("/nonexistent")}, "engine.model_dir: .*cannot be read"),
    ],
)
def test_settings_that_cannot_work_say_why(settings: VllmSettings, change, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_settings(replace(settings, **change))


def test_environment_never_sets_the_trap_and_binds_threads(settings: VllmSettings) -> None:
    table = {variable.name: variable.value for variable in environment(replace(settings, threads=2))}
    assert table["VLLM_CPU_KVCACHE_SPACE"] is None
    assert table["OMP_NUM_THREADS"] == "2"
    assert table["VLLM_CPU_ATTN_SPLIT_KV"] == "0"
    on_cuda = {variable.name for variable in environment(replace(settings, device="cuda"))}
    assert "TORCHDYNAMO_DISABLE" not in on_cuda


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((4, 2, 128), None),
        ((9, 3, 128), "9 attention heads"),
        ((4, 1, 128), "1 key-value heads"),
        ((4, None, 127), "127 MLP columns"),
    ],
)
def test_heads_must_divide(shape: tuple[int, int | None, int], said: str | None) -> None:
    names = ("num_attention_heads", "num_key_value_heads", "intermediate_size")
    found = split_problem(dict(zip(names, shape, strict=True)), 2)
    assert found is None if said is None else said in str(found)
    assert split_problem(dict(zip(names, shape, strict=True)), 1) is None
