"""A run goes on with the same science on any hardware; each refused change is named with both values."""

import json
from pathlib import Path

import pytest

from data.errors import ConfigError
from rl.config import load_recipe
from rl.storage.run_directory import RunDirectory

CPU = Path(__file__).parents[3] / "recipes" / "countdown_cpu.yaml"
ACCEPTED = (
    "engine.num_engines=2",
    "engine.device=cpu",
    "engine.kv_cache_gb=0.5",
    "engine.max_live_calls=128",
    "engine.block_size=64",
    "engine.hang_seconds=60.0",
    "engine.start_seconds=60.0",
    "sft.num_ranks=1",
    "sft.keep_engines=true",
    "rl.num_ranks=2",
    "rl.sharding=fsdp",
    "rl.activation_checkpointing=true",
    "rl.cost.linear=2.0",
    "rl.forest_tokens=4096",
    "rl.hang_seconds=60.0",
    "rl.reward_workers=2",
    "rl.checkpoint_every=3",
    "rl.keep_checkpoints=5",
    "name=other",
)
REFUSED = (
    "seed=1",
    "engine.dtype=bfloat16",
    "engine.kv=keep",
    "model.hidden_size=64",
    "model.max_length=512",
    "task.train_problems=100",
    "task.params.high=11",
    "protocol.child_tokens=80",
    "rewards.correct.weight=2.0",
    "sft.steps=70",
    "sft.learning_rate=0.5",
    "sft.forest_tokens=1024",
    "sft.tokens_per_step=16384",
    "rl.groups_per_step=32",
    "rl.samples_per_group=3",
    "rl.staleness=2",
    "rl.algorithm.name=rloo",
    "rl.algorithm.clip_high=0.3",
    "rl.learning_rate=0.01",
    "rl.precision=bfloat16",
    "rl.temperature=0.5",
    "rl.reward_seconds=7.0",
    "rl.steps=7",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    directory = RunDirectory(tmp_path_factory.mktemp("runs") / "run")
    assert directory.open(load_recipe(CPU)) == []
    return directory


@pytest.mark.parametrize("change", ACCEPTED)
def test_hardware_may_change(run: RunDirectory, change: str) -> None:
    key, _, value = change.partition("=")
    changes = run.open(load_recipe(CPU, [change]))
    assert [(found.key, str(found.now).lower()) for found in changes] == [(key, value)]
    assert changes[0].accepted and changes[0].before != changes[0].now


@pytest.mark.parametrize("change", REFUSED)
def test_science_may_not(run: RunDirectory, change: str) -> None:
    key, _, value = change.partition("=")
    before = dict(_leaves(json.loads((run.path / "recipe.json").read_text())))
    with pytest.raises(ConfigError) as error:
        run.open(load_recipe(CPU, [change]))
    assert f"\n  {key}: {before[key]} there, {value} here\n" in str(error.value)


def _leaves(recipe: dict[str, object]) -> list[tuple[str, object]]:
    from rl.config.tree import leaves

    return [(key.removeprefix("stages."), value) for key, value in leaves(recipe)]


def test_accepted_changes_are_kept_and_the_next_start_has_none(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.open(load_recipe(CPU))
    moved = load_recipe(CPU, ["engine.num_engines=2"])
    assert len(directory.open(moved)) == 1
    directory.accept(moved)
    assert directory.open(moved) == [] and directory.recipe().engine.num_engines == 2
    assert [change.before for change in directory.open(load_recipe(CPU))] == [2]


def test_a_stage_s_data_file_may_move_but_not_change(tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "train.jsonl", tmp_path / "copy.jsonl"
    file.write_text('{"numbers": [1, 2], "target": 3}\n')
    elsewhere.write_bytes(file.read_bytes())
    directory = RunDirectory(tmp_path / "run")
    directory.open(load_recipe(CPU, [f"sft.task.files.train={file}"]))
    assert directory.open(load_recipe(CPU, [f"sft.task.files.train={elsewhere}"])) == []
    file.write_text('{"numbers": [1, 2], "target": 2}\n')
    with pytest.raises(ConfigError, match=rf"sft\.task\.files\.train: {file} has other content"):
        directory.open(load_recipe(CPU, [f"sft.task.files.train={file}"]))
    with pytest.raises(ConfigError, match=r"task\.files"):
        directory.open(load_recipe(CPU))


def test_an_edited_model_and_another_record_are_named(tmp_path: Path) -> None:
    model, record = tmp_path / "model", tmp_path / "a.jsonl"
    model.mkdir()
    for name in ("config.json", "model.safetensors"):
        (model / name).write_text("{}")
    record.write_text("{}")
    given = [
        f"model={{kind: pretrained, path: {model}}}",
        f"sft.source={{kind: recorded, files: ['{tmp_path}/*.jsonl']}}",
    ]
    directory = RunDirectory(tmp_path / "run")
    directory.open(load_recipe(CPU, given))
    assert directory.open(load_recipe(CPU, given)) == []
    (tmp_path / "b.jsonl").write_text("[]")
    (model / "model.safetensors").write_text("[]")
    with pytest.raises(ConfigError) as error:
        directory.open(load_recipe(CPU, given))
    assert f"model.path: {model / 'model.safetensors'} has other content" in str(error.value)
    assert f"sft.source.files.0: {tmp_path / 'b.jsonl'} has other content" in str(error.value)


def test_an_edited_recipe_json_and_another_side_are_refused(tmp_path: Path) -> None:
    directory, recipe = RunDirectory(tmp_path / "run"), load_recipe(CPU)
    directory.open(recipe)
    with pytest.raises(ConfigError, match="simulated: nothing there, rollout from /runs/a here"):
        directory.open(recipe, "rollout from /runs/a")
    kept = json.loads((directory.path / "recipe.json").read_text())
    edited = load_recipe(CPU, ["seed=5"])
    (directory.path / "recipe.json").write_text(json.dumps({**kept, "seed": 5}))
    with pytest.raises(ConfigError, match=r"recipe\.json: was changed"):
        directory.open(edited)


def test_a_folder_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="not empty and not a run directory"):
        RunDirectory(tmp_path).open(load_recipe(CPU))
