"""Export of a checkpoint as a plain Hugging Face directory, loadable by `transformers` and vLLM.

    *.safetensors    weights of the checkpoint, in the number format of the model that training began with
    config.json  generation_config.json  chat_template.jinja  tokenizer.json ...   as that model has them
    protocol.json    how to drive the model: protocol, tags, budgets
    README.md        model card with the measured figures
    checksums.json   the files that the export wrote: a later export replaces these and no others

Torch is not needed, and no pickled file is copied.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from data.checksum import file_checksum
from data.errors import ConfigError
from data.whole_file import write_json, write_text
from rl.export.number_format import needs_rounding, wanted_format, write_rounded
from rl.storage.checksums import CHECKSUMS, write_checksums
from rl.storage.files import storing
from rl.storage.finite_weights import non_finite_tensors

EXPORT_FORMAT = "braid-export/2"
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
    start_dir: Path | None = None,
) -> Path:
    """Write `out_dir` atomically, replacing an earlier export. Returns its real path.

    All but the weights is taken from `start_dir`, the model that training began with, by default from the
    checkpoint.

    Raises:
        ConfigError: the checkpoint is incomplete, damaged or not finite, or `out_dir` cannot be written or
            holds a file that no export wrote, or that was changed since.
        StorageError: the disk is full. An earlier export is still there.
    """
    assert "format" not in protocol_description, "the export writes its own format key"
    out_dir = Path(os.path.realpath(out_dir))
    try:
        _ensure_free(out_dir, checkpoint_dir)
        sources = collect(checkpoint_dir, start_dir or checkpoint_dir)
        wanted = wanted_format(json.loads(sources[0].read_text(encoding="utf-8")))
        with storing(f"{out_dir}: the export"), _partial(out_dir) as partial:
            for source in sources:
                _copy(source, partial / source.name, wanted)
            if not (partial / "generation_config.json").exists():
                settings = _generation_config(partial / "config.json")
                write_json(partial / "generation_config.json", settings)
            write_json(partial / PROTOCOL_FILE, {"format": EXPORT_FORMAT, **protocol_description})
            write_text(partial / "README.md", card)
            write_checksums(partial)
            for path in [*partial.iterdir(), partial]:
                _sync(path)
            _replace(partial, out_dir)
    except OSError as error:
        raise ConfigError(
            f"{out_dir}: cannot hold an export ({error.strerror or error})\n  fix: choose another directory"
        ) from error
    return out_dir


def _copy(source: Path, target: Path, wanted: str | None) -> None:
    """Copy a file; weights in the number format `wanted`, where that is the smaller one."""
    if source.suffix != ".safetensors" or not needs_rounding(source, wanted):
        shutil.copyfile(source, target)
        return
    assert wanted is not None
    write_rounded(source, target, wanted)
    _check_weights(target)  # a number beyond float16's largest has become an infinity


def collect(checkpoint_dir: Path, start_dir: Path) -> list[Path]:
    """The files to copy, config.json first. Raises ConfigError naming what is missing or unreadable."""
    if not checkpoint_dir.is_dir():
        raise ConfigError(f"{checkpoint_dir}: no such checkpoint; train first or give another path")
    for name in REQUIRED:
        if not (start_dir / name).is_file():
            raise ConfigError(
                f"{start_dir}: {name} is missing, so this is not a complete checkpoint; export another"
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
    names = ("config.json", "generation_config.json", *TOKENIZER_FILES)
    beside = [*(start_dir / name for name in names), index]
    return [*(path for path in beside if path.is_file()), *shards]


def _check_weights(shard: Path) -> None:
    try:
        with safe_open(shard, framework="numpy") as file:
            file.keys()
        broken = non_finite_tensors(shard)
    except (SafetensorError, OSError, ValueError) as error:
        raise ConfigError(
            f"{shard}: not readable as safetensors ({error}); export another checkpoint"
        ) from error
    if broken:
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise ConfigError(
            f"{shard}: holds NaN or infinity in {', '.join(broken[:3])}{more}\n"
            "  fix: export a checkpoint from before the NaN or infinity appeared"
        )


def _ensure_free(out_dir: Path, checkpoint_dir: Path) -> None:
    """Raises ConfigError when an export to `out_dir` would lose a file that no export wrote."""
    if out_dir in [checkpoint_dir.resolve(), *checkpoint_dir.resolve().parents]:
        raise ConfigError(f"{out_dir}: holds the checkpoint itself; export to another path")
    if not os.path.lexists(out_dir) or (out_dir.is_dir() and not any(out_dir.iterdir())):
        return
    if not is_export(out_dir):
        raise ConfigError(f"{out_dir}: exists and is not an earlier export; move it away or export elsewhere")
    written = _written(out_dir)
    others = [path.name for path in sorted(out_dir.iterdir()) if _is_foreign(path, written)]
    if others:
        raise ConfigError(
            f"{out_dir}: holds files that no export wrote, or that were changed since ({', '.join(others)})\n"
            "  fix: move them away, or export elsewhere"
        )


def _is_foreign(path: Path, written: Mapping[str, str]) -> bool:
    if path.name == CHECKSUMS:
        return False
    return path.is_symlink() or not path.is_file() or file_checksum(path) != written.get(path.name)


def _written(folder: Path) -> dict[str, str]:
    """Name -> checksum of the files that the export wrote."""
    try:
        names = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return names if isinstance(names, dict) else {}


def is_export(folder: Path) -> bool:
    """Whether `write_export` wrote this directory."""
    try:
        described = json.loads((folder / PROTOCOL_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    written = bool(_written(folder))
    return written and isinstance(described, dict) and described.get("format") == EXPORT_FORMAT


@contextmanager
def _partial(out_dir: Path) -> Iterator[Path]:
    """An empty folder beside `out_dir`; nothing of it is left when the export fails."""
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    partial = out_dir.with_name(f".{out_dir.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _replace(partial: Path, out_dir: Path) -> None:
    """Replace the earlier export: it is renamed first, and its files are deleted last."""
    old = out_dir.with_name(f".{out_dir.name}.old")
    if old.exists():
        _remove(old)
    if out_dir.exists():
        out_dir.rename(old)
    partial.rename(out_dir)
    _sync(out_dir.parent)
    if old.exists():
        _remove(old)


def _remove(old: Path) -> None:
    """Remove an earlier export. Raises OSError when it holds other files by now, which are kept."""
    for name in [*_written(old), CHECKSUMS]:
        (old / name).unlink(missing_ok=True)
    old.rmdir()


def _generation_config(config_file: Path) -> dict[str, Any]:
    """Generation settings, which a model trained from scratch has in its config only."""
    config = json.loads(config_file.read_text(encoding="utf-8"))
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {name: config[name] for name in names if config.get(name) is not None}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
