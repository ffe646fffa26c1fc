import json
import math
import re
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file as load_torch
from safetensors.torch import save_file as save_torch

from data.errors import ConfigError, StorageError
from rl.export.directory import EXPORT_FORMAT, is_export, write_export
from rl.storage.checksums import damage

PROTOCOL = {"protocol": "spawn_join", "tags": {"spawn": "spawn", "join": "join"}}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """What a checkpoint holds, with things that must not be exported."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen3", "eos_token_id": 1, "pad_token_id": 0}')
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    (folder / "optimizer.bin").write_text("not for you")
    save_file({"weight": np.zeros((2, 2), dtype=np.float32)}, folder / "model.safetensors")
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_export_is_a_plain_directory(checkpoint: Path, tmp_path: Path) -> None:
    out = write_export(
        checkpoint, tmp_path / "deep" / "model", protocol_description=PROTOCOL, card="# card\n"
    )
    assert names(out) == {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
        "protocol.json",
        "README.md",
        "checksums.json",
    }
    assert damage(out) is None
    assert json.loads((out / "protocol.json").read_text()) == {"format": EXPORT_FORMAT, **PROTOCOL}
    assert json.loads((out / "generation_config.json").read_text()) == {"eos_token_id": 1, "pad_token_id": 0}
    assert (out / "README.md").read_text() == "# card\n"
    assert (out / "model.safetensors").read_bytes() == (checkpoint / "model.safetensors").read_bytes()
    assert names(out.parent) == {"model"}  # nothing half-done left beside it


def test_export_replaces_an_earlier_one_but_nothing_else(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    write_export(checkpoint, out, protocol_description=PROTOCOL, card="old")
    assert is_export(out)
    write_export(checkpoint, out, protocol_description=PROTOCOL, card="new")
    assert (out / "README.md").read_text() == "new"

    precious = tmp_path / "precious"
    precious.mkdir()
    write_export(checkpoint, precious, protocol_description=PROTOCOL, card="into an empty directory")
    (precious / "protocol.json").unlink()
    with pytest.raises(ConfigError, match="precious: exists and is not an earlier export"):
        write_export(checkpoint, precious, protocol_description=PROTOCOL, card="")
    with pytest.raises(ConfigError, match="holds the checkpoint itself"):
        write_export(checkpoint, tmp_path, protocol_description=PROTOCOL, card="")
    assert names(tmp_path) == {"checkpoint", "model", "precious"}


def edit_card(out: Path) -> str:
    (out / "README.md").write_text("my own words")
    return "README.md"


def add_notes(out: Path) -> str:
    (out / "notes.txt").write_text("mine")
    return "notes.txt"


def add_folder(out: Path) -> str:
    (out / ".git").mkdir()
    (out / ".git" / "HEAD").write_text("mine")
    return ".git"


def link_weights(out: Path) -> str:
    (out / "model.safetensors").rename(out.parent / "mine")
    (out / "model.safetensors").symlink_to(out.parent / "mine")
    return "model.safetensors"


@pytest.mark.parametrize("harm", [edit_card, add_notes, add_folder, link_weights])
def test_files_of_the_user_in_an_earlier_export_are_never_lost(
    checkpoint: Path, tmp_path: Path, harm: Callable[[Path], str]
) -> None:
    out = write_export(checkpoint, tmp_path / "model", protocol_description=PROTOCOL, card="old")
    name = harm(out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=rf"changed since \({re.escape(name)}\)\n  fix: move them away"):
        write_export(checkpoint, out, protocol_description=PROTOCOL, card="new")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_full_disk_leaves_the_earlier_export(checkpoint: Path, tmp_path: Path) -> None:
    out = write_export(checkpoint, tmp_path / "model", protocol_description=PROTOCOL, card="old")
    save_file({"weight": np.zeros((200, 200), dtype=np.float32)}, checkpoint / "model.safetensors")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow beyond this: as on a full disk, the copy fails half-way.
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(StorageError, match=r"the export could not be written .*\n  fix: make room"):
            write_export(checkpoint, out, protocol_description=PROTOCOL, card="new")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (out / "README.md").read_text() == "old" and damage(out) is None
    assert names(tmp_path) == {"checkpoint", "model"}
    write_export(checkpoint, out, protocol_description=PROTOCOL, card="new")
    assert (out / "README.md").read_text() == "new"
    assert names(tmp_path) == {"checkpoint", "model"}


def test_a_place_that_takes_no_files_is_one_message(checkpoint: Path, tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for out in (Path("/proc/x"), Path("/dev/null"), tmp_path / ("x" * 300), loop, checkpoint / "config.json"):
        with pytest.raises(ConfigError, match=r"cannot hold an export|is not an earlier export"):
            write_export(checkpoint, out, protocol_description=PROTOCOL, card="")


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused_by_name(
    checkpoint: Path, tmp_path: Path, kind: torch.dtype, value: float
) -> None:
    tensors = {name: torch.ones(3, 3, dtype=kind) for name in ("a", "b", "c")}
    # A byte in front, so that no number lies where its size divides its place.
    tensors["_"] = torch.ones(1, dtype=torch.uint8)
    tensors["a"][1, 2], tensors["b"][0, 0] = value, torch.finfo(kind).max
    save_torch(tensors, checkpoint / "model.safetensors")
    with pytest.raises(ConfigError, match=r"model\.safetensors: holds NaN or infinity in a\n  fix: "):
        write_export(checkpoint, tmp_path / "model", protocol_description=PROTOCOL, card="")
    assert not (tmp_path / "model").exists()


def test_all_but_the_weights_is_that_of_the_start(checkpoint: Path, tmp_path: Path) -> None:
    """Configuration, generation settings and chat template byte for byte; weights rounded."""
    start = tmp_path / "start"
    start.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (checkpoint / name).rename(start / name)
    texts = {
        "config.json": '{"use_cache":true,  "torch_dtype": "bfloat16", "model_type": "qwen3"}',
        "generation_config.json": '{"eos_token_id": [1, 2], "temperature": 0.6}',
        "chat_template.jinja": "{% for message in messages %}\n{{ message.content }}{% endfor %}",
    }
    for name, text in texts.items():
        (start / name).write_text(text)
    torch.manual_seed(0)
    weights = {"a": torch.randn(5, 7) * torch.logspace(-30, 30, 7), "steps": torch.tensor([3, 4])}
    save_torch(weights, checkpoint / "model.safetensors")
    out = write_export(
        checkpoint, tmp_path / "model", protocol_description=PROTOCOL, card="", start_dir=start
    )
    assert {name: (out / name).read_text() for name in texts} == texts
    assert {"tokenizer.json", "tokenizer_config.json"} <= names(out)
    found = load_torch(out / "model.safetensors")
    assert found["a"].dtype == torch.bfloat16 and torch.equal(found["a"], weights["a"].to(torch.bfloat16))
    assert torch.equal(found["steps"], weights["steps"])


def test_weights_too_large_for_their_format_are_named(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "config.json").write_text('{"dtype": "float16"}')
    save_torch({"small": torch.ones(2), "large": torch.full((2,), 1e5)}, checkpoint / "model.safetensors")
    with (
        pytest.warns(RuntimeWarning, match="overflow"),
        pytest.raises(ConfigError, match=r"holds NaN or infinity in large\n"),
    ):
        write_export(checkpoint, tmp_path / "model", protocol_description=PROTOCOL, card="")
    assert not (tmp_path / "model").exists()


def test_shards_come_from_the_index(checkpoint: Path, tmp_path: Path) -> None:
    shard = "model-00001-of-00001.safetensors"
    (checkpoint / "model.safetensors").rename(checkpoint / shard)
    index = checkpoint / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"weight": shard}}))
    out = write_export(checkpoint, tmp_path / "model", protocol_description=PROTOCOL, card="")
    assert {shard, index.name} <= names(out)
    (checkpoint / shard).unlink()
    with pytest.raises(ConfigError, match=shard):
        write_export(checkpoint, tmp_path / "other", protocol_description=PROTOCOL, card="")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("config.json", "config.json is missing"),
        ("tokenizer_config.json", "tokenizer_config.json is missing"),
        ("model.safetensors", "no weights to export"),
    ],
)
def test_incomplete_checkpoint(checkpoint: Path, tmp_path: Path, broken: str, message: str) -> None:
    (checkpoint / broken).unlink()
    with pytest.raises(ConfigError, match=message):
        write_export(checkpoint, tmp_path / "model", protocol_description=PROTOCOL, card="")
    assert not (tmp_path / "model").exists()


def test_damaged_or_missing_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    with pytest.raises(ConfigError, match=r"model\.safetensors: not readable as safetensors"):
        write_export(checkpoint, tmp_path / "model", protocol_description=PROTOCOL, card="")
    with pytest.raises(ConfigError, match="no such checkpoint"):
        write_export(tmp_path / "nowhere", tmp_path / "model", protocol_description=PROTOCOL, card="")


@pytest.mark.slow
def test_export_loads_in_transformers(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        PreTrainedTokenizerFast,
        Qwen3Config,
        Qwen3ForCausalLM,
    )

    config = Qwen3Config(
        vocab_size=16, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, tie_word_embeddings=True, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config)
    core = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "spawn": 2, "join": 3}))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", pad_token="<pad>")
    model.save_pretrained(tmp_path / "checkpoint")
    tokenizer.save_pretrained(tmp_path / "checkpoint")
    out = write_export(tmp_path / "checkpoint", tmp_path / "model", protocol_description=PROTOCOL, card="")
    loaded = AutoModelForCausalLM.from_pretrained(out)
    ids = AutoTokenizer.from_pretrained(out)("spawn join", return_tensors="pt")["input_ids"]
    assert ids.tolist() == [[2, 3]]
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, model.eval()(ids).logits)
