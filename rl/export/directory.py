"""Turns a checkpoint into a plain Hugging Face directory that `transformers` and vLLM load as it is.

    config.json  generation_config.json  *.safetensors  tokenizer.json ...   as in the checkpoint
    protocol.json   how the model is to be driven: protocol, tags, budgets
    README.md       model card with the measured figures

Files are copied, never loaded: no torch here, and nothing pickled is carried over.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from data.errors import ConfigError
from data.whole_file import write_json

EXPORT_FORMAT = "braid-export/1"
PROTOCOL_FILE = "protocol.json"
WEIGHTS_INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
)
REQUIRED = ("config.json", "tokenizer_config.json")


def write_export(
    checkpoint_dir: Path,
    out_dir: Path,
    *,
    protocol_description: Mapping[str, Any],
    card: str,
    tokenizer_dir: Path | None = None,
) -> Path:
    """Writes `out_dir` whole or not at all, replacing an earlier export. Returns it.

    The tokenizer is taken from the checkpoint unless `tokenizer_dir` is given. Raises ConfigError when the
    checkpoint is incomplete or damaged, or when `out_dir` holds something that is not an earlier export.
    """
    assert "format" not in protocol_description, "the export writes its own format key"
    _check_destination(out_dir, checkpoint_dir)
    sources = collect(checkpoint_dir, tokenizer_dir or checkpoint_dir)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    partial = out_dir.with_name(f".{out_dir.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for source in sources:
        shutil.copyfile(source, partial / source.name)
    if not (partial / "generation_config.json").exists():
        generation = _generation_config(partial / "config.json")
        write_json(partial / "generation_config.json", generation, sort_keys=False)
    write_json(partial / PROTOCOL_FILE, {"format": EXPORT_FORMAT, **protocol_description}, sort_keys=False)
    (partial / "README.md").write_text(card, encoding="utf-8")
    for path in [*partial.iterdir(), partial]:
        _sync(path)
    _put_in_place(partial, out_dir)
    return out_dir


def collect(checkpoint_dir: Path, tokenizer_dir: Path) -> list[Path]:
    """The files to copy. Raises ConfigError naming what is missing or unreadable."""
    if not checkpoint_dir.is_dir():
        raise ConfigError(f"{checkpoint_dir}: no such checkpoint; train first or give another path")
    for folder, name in zip((checkpoint_dir, tokenizer_dir), REQUIRED, strict=True):
        if not (folder / name).is_file():
            raise ConfigError(
                f"{folder}: {name} is missing, so this is not a complete checkpoint; export another"
            )
    shards = sorted(checkpoint_dir.glob("*.safetensors"))
    index = checkpoint_dir / WEIGHTS_INDEX
    if index.is_file():
        named = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        shards = [checkpoint_dir / name for name in named]
    if not shards:
        raise ConfigError(f"{checkpoint_dir}: no *.safetensors file, so no weights to export; export another")
    for shard in shards:
        _check_weights(shard)
    model = [checkpoint_dir / name for name in ("config.json", "generation_config.json", WEIGHTS_INDEX)]
    tokenizer = [tokenizer_dir / name for name in TOKENIZER_FILES]
    return [*(path for path in [*model, *tokenizer] if path.is_file()), *shards]


def _check_weights(shard: Path) -> None:
    try:
        with safe_open(shard, framework="numpy") as file:
            file.keys()
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            f"{shard}: not readable as safetensors ({error}); export another checkpoint"
        ) from error


def _check_destination(out_dir: Path, checkpoint_dir: Path) -> None:
    if out_dir.resolve() in [checkpoint_dir.resolve(), *checkpoint_dir.resolve().parents]:
        raise ConfigError(f"{out_dir}: holds the checkpoint itself; export to another path")
    if not out_dir.exists() or is_export(out_dir):
        return
    if not out_dir.is_dir() or any(out_dir.iterdir()):
        raise ConfigError(f"{out_dir}: exists and is not an earlier export; move it away or export elsewhere")


def is_export(folder: Path) -> bool:
    """Whether `write_export` wrote this directory."""
    try:
        described = json.loads((folder / PROTOCOL_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(described, dict) and described.get("format") == EXPORT_FORMAT


def _put_in_place(partial: Path, out_dir: Path) -> None:
    """A directory cannot be renamed onto a full one: the old one steps aside first and is deleted last."""
    old = out_dir.with_name(f".{out_dir.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out_dir.exists():
        out_dir.rename(old)
    partial.rename(out_dir)
    _sync(out_dir.parent)
    shutil.rmtree(old, ignore_errors=True)


def _generation_config(config_file: Path) -> dict[str, Any]:
    """What generation needs to know and a model trained from scratch keeps in its config only."""
    config = json.loads(config_file.read_text(encoding="utf-8"))
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {name: config[name] for name in names if config.get(name) is not None}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
