"""Exports that are not what the run trained are refused, each with its reason. No engine is started."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from data.errors import ConfigError
from rl.config import load_recipe
from rl.config.recipe import Recipe
from rl.export.verify import verify_files
from rl.learner.lora import ADAPTER_FILE, adapter_tensors, add_adapters, load_adapters, merged_weights
from rl.learner.model import load_model
from rl.learner.snapshot import MODEL_FILE, Snapshot
from rl.runtime.rank_worker import build_start
from rl.stages.context import make_codec
from rl.stages.export import export
from rl.storage.checksums import write_checksums
from rl.storage.run_directory import RunDirectory

CPU = Path(__file__).parents[3] / "recipes" / "countdown_cpu.yaml"
SMALL = (
    "model.hidden_size=32", "model.num_layers=1", "model.num_heads=2", "model.num_kv_heads=1",
    "model.intermediate_size=32", "rl.lora={rank: 2, targets: [q_proj, up_proj]}",
)  # fmt: skip
QUERY = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, RunDirectory]:
    """A run whose supervised stage moved all weights and whose adapters are trained; with a chat template."""
    recipe = load_recipe(CPU, SMALL)
    directory = RunDirectory(tmp_path_factory.mktemp("verify") / "run")
    directory.open(recipe)
    make_codec(recipe).save(directory.start)
    build_start(recipe.model, directory.start, directory.start, 0)
    (directory.start / "chat_template.jinja").write_text("{{ messages }}")
    write_checksums(directory.start)
    model = load_model(directory.start)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    _save(directory, "sft", model)
    stage = next(stage for stage in recipe.stages if stage.kind == "rl")
    assert stage.lora is not None
    add_adapters(model, stage.lora, seed=0)
    load_adapters(model, {name: torch.full_like(t, 0.1) for name, t in adapter_tensors(model).items()})
    _save(directory, "rl", model)
    return recipe, directory


def _save(directory: RunDirectory, name: str, model: torch.nn.Module) -> None:
    folder = directory.stage(name) / "model"
    folder.mkdir()
    adapters = adapter_tensors(model)
    tensors = {MODEL_FILE: merged_weights(model)} | ({ADAPTER_FILE: adapters} if adapters else {})
    Snapshot.of(model, tensors).write(folder)
    directory.complete_model(name)


@pytest.fixture
def exported(finished: tuple[Recipe, RunDirectory], tmp_path: Path) -> Path:
    export(finished[1].path, "rl", tmp_path / "out")
    return tmp_path / "out"


def refusal(finished: tuple[Recipe, RunDirectory], exported: Path, checkpoint: str = "rl") -> str:
    write_checksums(exported)  # whoever changes an export may well do this too
    with pytest.raises(ConfigError) as refused:
        verify_files(*finished, checkpoint, exported)
    return str(refused.value)


def test_every_checkpoint_passes(finished: tuple[Recipe, RunDirectory], tmp_path: Path) -> None:
    for name in ("start", "sft", "rl"):
        export(finished[1].path, name, tmp_path / name)
        weights, files = verify_files(*finished, name, tmp_path / name)
        assert ("; 0 differ" in weights) == (name == "start") and "chat template" in files


def test_another_checkpoints_weights(finished: tuple[Recipe, RunDirectory], exported: Path) -> None:
    shutil.copyfile(finished[1].start / MODEL_FILE, exported / MODEL_FILE)
    assert "is not the stage's weight" in refusal(finished, exported)
    assert "no weight differs" not in refusal(finished, exported)


def test_a_base_weight_left_unmerged(finished: tuple[Recipe, RunDirectory], exported: Path) -> None:
    """Everything else is right: the layer's own weights of the stage before."""
    weights, before = load_file(exported / MODEL_FILE), load_file(finished[1].model("sft") / MODEL_FILE)
    weights[QUERY] = before[QUERY]
    save_file(weights, exported / MODEL_FILE, metadata={"format": "pt"})
    assert f"{QUERY} is the base's: its adapter was not merged" in refusal(finished, exported)


def test_a_missing_chat_template(finished: tuple[Recipe, RunDirectory], exported: Path) -> None:
    (exported / "chat_template.jinja").unlink()
    assert "the chat template chat_template.jinja is missing" in refusal(finished, exported)
    (exported / "chat_template.jinja").write_text("{{ messages[0] }}")
    assert "chat_template.jinja is not the one that training began with" in refusal(finished, exported)


def test_other_names_and_shapes(finished: tuple[Recipe, RunDirectory], exported: Path) -> None:
    weights = load_file(exported / MODEL_FILE)
    save_file(weights | {"lm_head.weight": torch.zeros(3, 3)}, exported / MODEL_FILE)
    assert "lm_head.weight is no weight of the model" in refusal(finished, exported)
    save_file({name: t for name, t in weights.items() if name != QUERY}, exported / MODEL_FILE)
    assert f"{QUERY} is missing" in refusal(finished, exported)
    save_file(weights | {QUERY: weights[QUERY][:3].clone()}, exported / MODEL_FILE)
    assert f"{QUERY} has shape (3, 32), not (64, 32)" in refusal(finished, exported)


def test_another_protocol_or_configuration(finished: tuple[Recipe, RunDirectory], exported: Path) -> None:
    file = exported / "protocol.json"
    described = json.loads(file.read_text())
    described["protocol"]["child_tokens"] += 1
    file.write_text(json.dumps(described))
    assert "protocol.json is not that of checkpoint 'rl'" in refusal(finished, exported)
    described["protocol"]["child_tokens"] -= 1
    file.write_text(json.dumps(described))
    config = json.loads((exported / "config.json").read_text())
    (exported / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    assert "config.json has another rms_norm_eps" in refusal(finished, exported)


def test_a_damaged_file(finished: tuple[Recipe, RunDirectory], exported: Path) -> None:
    (exported / "README.md").write_text("other")
    with pytest.raises(ConfigError, match=r"README.md is not what was written\n  fix: export it again"):
        verify_files(*finished, "rl", exported)


def test_a_stage_that_trained_nothing(finished: tuple[Recipe, RunDirectory], tmp_path: Path) -> None:
    recipe, directory = finished
    copy = RunDirectory(tmp_path / "copy")
    shutil.copytree(directory.path, copy.path)
    shutil.copyfile(copy.start / MODEL_FILE, copy.path / "stages/sft/model" / MODEL_FILE)
    write_checksums(copy.path / "stages/sft/model")
    with pytest.raises(ConfigError, match="no weight differs from those that the run began with"):
        export(copy.path, "sft", tmp_path / "out")
    assert recipe.name
