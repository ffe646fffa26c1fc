"""Broken model directories, made from a whole one, are refused with the reason."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rl.preflight.model_files import config_problem, loading_problem, weights_problem


@pytest.fixture
def model(tiny_model_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "model"))


def _rewrite(model: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the header of the weights; the numbers stay."""
    file = model / "model.safetensors"
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    new = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(new)) + new + content[8 + length :])


def _first(header: dict[str, Any]) -> str:
    return next(name for name in sorted(header) if name.endswith("proj.weight"))


def _doubled(header: dict[str, Any]) -> None:
    header[_first(header)]["shape"][0] *= 2


def _transposed(header: dict[str, Any]) -> None:
    entry = next(entry for name, entry in header.items() if name.endswith("gate_proj.weight"))
    entry["shape"].reverse()


def _renamed(header: dict[str, Any]) -> None:
    header[f"other.{_first(header)}"] = header.pop(_first(header))


@pytest.mark.slow
def test_a_whole_model_passes(model: Path) -> None:
    assert weights_problem(model) is None
    assert loading_problem(model) is None


def test_a_truncated_or_lying_file_is_seen_in_its_header(model: Path) -> None:
    file = model / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-10])
    assert "model.safetensors: is cut off or damaged" in str(weights_problem(model))
    file.write_bytes(content[:20])
    assert "is cut off: a header of" in str(weights_problem(model))
    file.write_bytes(content[:3])
    assert "header cannot be read" in str(weights_problem(model))
    file.write_bytes(struct.pack("<Q", 4) + b"nope")
    assert "header cannot be read" in str(weights_problem(model))
    file.write_bytes(content)
    _rewrite(model, _doubled)
    assert "contradicts itself" in str(weights_problem(model))


def test_an_index_that_names_a_missing_part(model: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "names model-00001-of-00002.safetensors, which is missing" in str(weights_problem(model))


@pytest.mark.slow
def test_missing_weights_and_other_shapes_are_named(model: Path) -> None:
    whole = (model / "model.safetensors").read_bytes()
    _rewrite(model, _renamed)
    assert weights_problem(model) is None
    assert "proj.weight, which would be drawn at random" in str(loading_problem(model))
    (model / "model.safetensors").write_bytes(whole)
    _rewrite(model, _transposed)
    assert "gate_proj.weight have another shape" in str(loading_problem(model))


@pytest.mark.slow
def test_a_garbled_tokenizer_is_named(model: Path) -> None:
    (model / "tokenizer.json").write_text('{"version": "1.0", "model": 3}')
    assert "transformers cannot load it" in str(loading_problem(model))


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("num_hidden_layers", 0, "num_hidden_layers = 0"),
        ("num_hidden_layers", -3, "num_hidden_layers = -3"),
        ("hidden_size", "64", "hidden_size = '64'"),
        ("num_attention_heads", True, "num_attention_heads = True"),
        ("auto_map", {"AutoModel": "code.Model"}, "its code comes with the model"),
    ],
)
def test_a_config_that_no_model_has(model: Path, key: str, value: object, part: str) -> None:
    config = json.loads((model / "config.json").read_text())
    assert config_problem(config) is None
    assert part in str(config_problem({**config, key: value}))
