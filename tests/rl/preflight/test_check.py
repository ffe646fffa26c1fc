"""`braid check`: files, overlap, tokens, memory, placement, against a machine that the test makes up."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from data.errors import ConfigError
from data.tasks.problem import save_problems
from data.tasks.registry import build_task
from data.text.codec import load_codec
from rl.config import Recipe, load_recipe
from rl.config.codec import missing_tags
from rl.learner.attention.support import unsupported
from rl.preflight.check import ensure_runnable, render
from rl.preflight.hardware import Gpu, Machine, probe
from rl.preflight.sizes import weight_bytes

ROOT = Path(__file__).parents[3]
CPU = ROOT / "recipes" / "countdown_cpu.yaml"
LAPTOP = Machine(
    cores=2,
    memory_gb=8,
    free_gb=6,
    shared_free_gb=4,
    disk_free_gb=50,
    cpu="made up",
    cpu_flags=frozenset({"avx2"}),
)
SERVER = replace(LAPTOP, gpus=(Gpu(name="H", total_gb=80, free_gb=79),) * 2)


def refusal(recipe: Recipe, machine: Machine = LAPTOP) -> str:
    with pytest.raises(ConfigError) as caught:
        ensure_runnable(recipe, machine=machine)
    return str(caught.value)


def found(recipe: Recipe, machine: Machine = LAPTOP) -> dict[str, str]:
    return {finding.about: finding.found for finding in ensure_runnable(recipe, machine=machine)}


def pretrained(tmp_path: Path, directory: Path, **model: Any) -> Path:
    content = yaml.safe_load(CPU.read_text())
    content["model"] = {"kind": "pretrained", "path": str(directory), "max_length": 512, **model}
    path = tmp_path / "pretrained.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.medium
def test_the_demo_fits_into_a_laptop() -> None:
    lines = found(load_recipe(CPU))
    assert lines["problems"] == "12000 train, 200 validation, 1024 test; disjoint by construction"
    # 0.25 GiB / (2 x 4 layers x 4 heads x 32 x 4 bytes = 4096) = 65,536 tokens
    assert lines["KV cache"] == "0.25 GiB per engine: 65536 tokens at 4096 bytes"
    assert lines["placement"] == "1 engine(s) on cpu; 2 cores, 0 GPU(s)"
    text = render(load_recipe(CPU), ensure_runnable(load_recipe(CPU), machine=LAPTOP))
    assert text.startswith(f"{CPU}: countdown_cpu can run here")


def test_weight_bytes_count_every_matrix_once() -> None:
    # attention 4 x 128 x 128, MLP 3 x 128 x 384, four layers, tied embedding of (64 + 99) x 128; float32
    assert weight_bytes(load_recipe(CPU)) == 4 * (4 * (4 * 128 * 128 + 3 * 128 * 384) + 163 * 128)


def test_more_problems_than_there_are() -> None:
    text = refusal(load_recipe(CPU, ["task.test_problems=9000"]))
    assert "task.test_problems = 9000" in text and "holds 1296" in text


@pytest.mark.medium
@pytest.mark.parametrize(
    ("machine", "overrides", "parts"),
    [
        (replace(LAPTOP, free_gb=2.0), [], ("engine.kv_cache_gb = 0.25", "only 2.0 GiB of memory")),
        (LAPTOP, ["engine.kv_cache_gb=5"], ("engine.kv_cache_gb = 5", "6.0 GiB of memory")),
        (
            LAPTOP,
            ["engine.kv_cache_gb=0.001"],
            ("engine.kv_cache_gb = 0.001", "the engine's own block need 0.00403"),
        ),
        (LAPTOP, ["engine.device=cuda"], ("engine.device = 'cuda'", "no GPU")),
        (replace(LAPTOP, free_gb=60), ["engine.num_engines=3"], ("engine.num_engines = 3", "2 core(s)")),
        (SERVER, ["engine.num_engines=3"], ("engine.num_engines = 3", "2 GPU(s)")),
        (
            replace(LAPTOP, free_gb=60),
            ["engine.num_engines=2", "engine.tensor_parallel=2"],
            ("engine.num_engines = 2", "keeps 2 (engine.tensor_parallel) busy"),
        ),
        (LAPTOP, ["engine.tensor_parallel=3"], ("engine.tensor_parallel = 3", "attention heads evenly")),
        (SERVER, ["engine.kv_cache_gb=79.5"], ("engine.kv_cache_gb = 79.5", "79.0 GiB of the fullest GPU")),
        (replace(LAPTOP, disk_free_gb=0.01), [], ("0.0 GiB free", "keep_checkpoints")),
    ],
)
def test_what_the_machine_cannot_hold(machine: Machine, overrides: list[str], parts: tuple[str, ...]) -> None:
    text = refusal(load_recipe(CPU, overrides), machine)
    for part in (*parts, str(CPU), "\n  fix: "):
        assert part in text


def test_a_cluster_is_not_judged_by_this_machine() -> None:
    ensure_runnable(load_recipe(CPU, ["engine.device=cuda"]), machine=LAPTOP, remote=True)


def test_the_apr_recipe_runs_on_a_server_and_not_on_a_laptop() -> None:
    recipe = load_recipe(
        CPU.with_name("countdown_apr.yaml"), ["task.test_problems=20", "task.validation_problems=20"]
    )
    assert "engine.device = 'cuda'" in refusal(recipe)
    assert found(recipe, SERVER)["placement"] == "1 engine(s) on cuda; 2 cores, 2 GPU(s)"


def test_a_tiny_apr_recipe_passes_on_a_laptop() -> None:
    tiny = [
        "engine.device=cpu", "engine.kv_cache_gb=0.5", "model.hidden_size=64", "model.num_heads=2",
        "model.num_kv_heads=2", "model.head_dim=32", "model.num_layers=2", "model.intermediate_size=128",
        "task.train_problems=100",
        "task.validation_problems=20", "task.test_problems=20",
    ]  # fmt: skip
    assert "cpu" in found(load_recipe(CPU.with_name("countdown_apr.yaml"), tiny))["placement"]


def test_a_processor_that_emulates_bfloat16_is_named() -> None:
    said = found(load_recipe(CPU, ["engine.dtype=bfloat16", "sft.precision=bfloat16"]))
    assert said["bfloat16"].startswith("sft.precision, engine.dtype: emulated on this CPU")
    able = replace(LAPTOP, cpu_flags=frozenset({"avx2", "avx512f", "avx512_bf16"}))
    assert "bfloat16" not in found(load_recipe(CPU, ["sft.precision=bfloat16"]), able)
    assert "bfloat16" not in found(load_recipe(CPU)), "it takes what the machine is fast at"


def test_held_out_problems_that_are_trained_on(tmp_path: Path) -> None:
    recipe = load_recipe(CPU)
    task = build_task(recipe.task.params)
    problems = task.problems("train", 20, 0)
    save_problems(tmp_path / "train.jsonl", problems)
    save_problems(tmp_path / "test.jsonl", [problems[3], *task.problems("test", 5, 0)])
    files = [f"task.files.{split}={tmp_path / split}.jsonl" for split in ("train", "test")]
    text = refusal(load_recipe(CPU, files))
    assert "train.jsonl" in text and "test.jsonl" in text and "shares 1 problem(s)" in text
    assert problems[3].id in text
    # A file of some training problems beside generated held-out splits is fine.
    assert "disjoint" in found(load_recipe(CPU, files[:1]))["problems"]


def test_a_problem_file_with_a_broken_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"id": "a", "task": "countdown", "numbers": [1, 2]}\n')
    text = refusal(load_recipe(CPU, [f"task.files.train={path}"]))
    assert str(path) in text and "row 0" in text


@pytest.mark.medium
def test_a_pretrained_model_with_the_tags(tiny_model_dir: Path, tmp_path: Path) -> None:
    recipe = load_recipe(pretrained(tmp_path, tiny_model_dir, tags="require"))
    lines = found(recipe)
    assert lines["tags"] == "all in the tokenizer"
    assert lines["model"].startswith(str(tiny_model_dir))


@pytest.mark.medium
def test_a_pretrained_model_without_the_tags(tiny_model_dir: Path, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(tiny_model_dir, directory)
    saved = json.loads((directory / "tokenizer.json").read_text())
    vocabulary = saved["model"]["vocab"]
    for tag in ("<spawn>", "<join>"):
        vocabulary[f"▁{tag[:-1]}er>"] = vocabulary.pop(f"▁{tag}")
    (directory / "tokenizer.json").write_text(json.dumps(saved))
    recipe = load_recipe(pretrained(tmp_path, directory, tags="require"))
    assert recipe.model.kind == "pretrained"
    assert missing_tags(recipe, load_codec(directory)) == ["<spawn>", "<join>"]
    text = refusal(recipe)
    assert "model.path" in text and "<spawn>, <join>" in text and "tags: add" in text
    assert (
        found(load_recipe(pretrained(tmp_path, directory)))["tags"]
        == "2 will be added, their rows the mean of their sub-words'"
    )


RL_ALONE = (
    "stages=[{name: rl, kind: rl, steps: 4, groups_per_step: 4, samples_per_group: 2, learning_rate: 0.001, "
    "forest_tokens: 256}]"
)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("changes", "tags", "expected"),
    [
        ((), ("<spawn>",), ""),
        ((RL_ALONE,), ("<spawn>",), "; no sft stage teaches them, so that the model seldom writes them"),
        (
            (RL_ALONE,), ("<spawn>", "<answer>"),
            "; no sft stage teaches them, so that the model seldom writes them, <answer> among them "
            "(protocol.answer.kind: last_number or boxed reads plain text)",
        ),
        (
            (RL_ALONE, "protocol.answer.kind=last_number"), ("<spawn>",),
            "; no sft stage teaches them, so that the model seldom writes them",
        ),
    ],
)  # fmt: skip
def test_new_tags_that_no_stage_teaches(
    tiny_model_dir: Path, tmp_path: Path, changes: tuple[str, ...], tags: tuple[str, ...], expected: str
) -> None:
    """A chat model on own rows never wrote <answer>, and every answer of the run counted as wrong."""
    directory = tmp_path / "model"
    shutil.copytree(tiny_model_dir, directory)
    saved = json.loads((directory / "tokenizer.json").read_text())
    vocabulary = saved["model"]["vocab"]
    for tag in tags:
        vocabulary[f"▁{tag[:-1]}er>"] = vocabulary.pop(f"▁{tag}")
    (directory / "tokenizer.json").write_text(json.dumps(saved))
    recipe = load_recipe(pretrained(tmp_path, directory), changes)
    plan = f"{len(tags)} will be added, their rows the mean of their sub-words'"
    assert found(recipe)["tags"] == plan + expected


def test_a_context_longer_than_the_models(tiny_model_dir: Path, tmp_path: Path) -> None:
    text = refusal(load_recipe(pretrained(tmp_path, tiny_model_dir, max_length=2048)))
    assert (
        "model.max_length = 2048" in text
        and "own context is 1024 tokens" in text
        and "use 1024 or less" in text
    )


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("config.json", "cannot be read"),
        ("tokenizer.json", "no tokenizer.json"),
        ("model.safetensors", "no *.safetensors"),
    ],
)
def test_an_incomplete_model_directory(
    tiny_model_dir: Path, tmp_path: Path, missing: str, reason: str
) -> None:
    directory = tmp_path / "model"
    shutil.copytree(tiny_model_dir, directory)
    (directory / missing).unlink()
    text = refusal(load_recipe(pretrained(tmp_path, directory)))
    assert "model.path" in text and reason in text


@pytest.mark.medium
def test_a_tokenizer_without_an_end(tiny_model_dir: Path, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(tiny_model_dir, directory)
    path = directory / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings["eos_token"]
    path.write_text(json.dumps(settings))
    text = refusal(load_recipe(pretrained(tmp_path, directory)))
    assert (
        str(directory) in text and "no end-of-sequence token; set eos_token in tokenizer_config.json" in text
    )


def test_code_beside_a_model_is_never_run(tiny_model_dir: Path, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(tiny_model_dir, directory)
    (directory / "code.py").write_text("raise SystemExit('it ran')")
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoModel": "code.Model"}}))
    text = refusal(load_recipe(pretrained(tmp_path, directory)))
    assert "model.path" in text and "is never run" in text and "fix: " in text


def test_a_config_that_is_no_decoders(tiny_model_dir: Path, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(tiny_model_dir, directory)
    (directory / "config.json").write_text('{"hidden_size": 3}')
    assert "config.json lacks" in refusal(load_recipe(pretrained(tmp_path, directory)))


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layers of kind sliding_attention"),
        ({"layer_types": ["linear_attention", "full_attention"]}, "layers of kind linear_attention"),
        ({"sliding_window": 128, "use_sliding_window": True}, "ends after 128 tokens"),
        ({"mamba_d_state": 16}, "recurrent layers (mamba_d_state)"),
        ({"attn_logit_softcapping": 50.0}, "soft-caps its logits (attn_logit_softcapping)"),
        ({"logits_scaling": 8.0}, "scales its logits (logits_scaling)"),
        ({"is_encoder_decoder": True}, "has an encoder"),
    ],
)
def test_models_that_no_forest_can_stand_for(
    tiny_model_dir: Path, tmp_path: Path, given: dict[str, Any], part: str
) -> None:
    copied = tmp_path / "model"
    shutil.copytree(tiny_model_dir, copied)
    path = copied / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | given))
    text = refusal(load_recipe(pretrained(tmp_path, copied)))
    assert "model.path" in text and part in text and "fix: take a model with ordinary attention" in text


@pytest.mark.parametrize(
    "given",
    [{"sliding_window": 4096, "use_sliding_window": False}, {"logit_scale": 1.0}, {"layer_types": None}],
)
def test_settings_that_change_nothing(given: dict[str, Any]) -> None:
    assert unsupported({"num_hidden_layers": 2, **given}) is None


def test_this_machine_can_be_probed() -> None:
    machine = probe()
    assert machine.cores >= 1
    assert 0 < machine.free_gb <= machine.memory_gb
    assert copy.copy(machine.device) in ("cpu", "cuda")


def test_a_cache_of_exactly_one_call_is_refused_and_the_remedy_works() -> None:
    # 1024 tokens of 2 * 4 layers * 4 heads * 32 * 4 bytes; the engine keeps one block of 32 for itself.
    one_call = 1024 * 4096 / 1024**3
    text = refusal(load_recipe(CPU, [f"engine.kv_cache_gb={one_call}"]))
    assert "engine.kv_cache_gb" in text and "the engine's own block need 0.00403" in text
    remedy = text.split("raise it to ")[1].split(" or more")[0]
    assert "KV cache" in found(load_recipe(CPU, [f"engine.kv_cache_gb={remedy}"]))
