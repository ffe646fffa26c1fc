"""Identity of a run: every key that can change a result, and the content of every file that it reads.

A run may resume on other hardware. A field counts as science unless it is marked (`data.params`):
    MAY_CHANGE   hardware, time limits, labels: neither the sampled tokens nor the mathematics of training
    CONTENT      a file: its content is science, its path is not
"""

import glob
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from data.checksum import file_checksum
from data.errors import ConfigError
from data.params import AT_RESUME, Mark
from rl.config.recipe import Recipe
from rl.config.tree import leaves

ABSENT = "nothing"
_MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model")
"""Files that are read from a pretrained directory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One key in which a recipe differs from the one that its run directory was made with."""

    key: str
    """Dotted, as `--set` takes it."""
    before: Any
    now: Any
    accepted: bool
    """Whether the run may resume with it."""

    def __str__(self) -> str:
        return f"{self.key}: {self.before} there, {self.now} here"


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """What a run directory belongs to, as `fingerprint.json` keeps it."""

    fingerprint: str
    """SHA-256 (hex) of the recipe's science."""
    files: dict[str, dict[str, str]]
    """Key -> {path: XXH3 of the content} of every file that the recipe names."""


def identity(recipe: Recipe) -> Identity:
    """The recipe's identity; reads every file it names. Raises ConfigError when one cannot be read."""
    return Identity(fingerprint=fingerprint(recipe), files=dict(_files(recipe)))


def fingerprint(recipe: Recipe) -> str:
    """SHA-256 (hex) of every key that can change a result. Contents of files: see `identity`."""
    return hashlib.sha256(json.dumps(science(recipe), sort_keys=True).encode()).hexdigest()


def differences(there: Mapping[str, Any], here: Recipe) -> list[Change]:
    """Keys in which a run's recipe (its recipe.json) differs from this one; paths of files are left out.

    Example: [Change(key="rl.steps", before=40, now=60, accepted=False)].
    """
    first, second = dict(leaves(there)), dict(leaves(here.model_dump(mode="json")))
    marks = {key: mark for key, mark, _ in _marked_leaves(here)}
    changes = []
    for key in {**first, **second}:
        before, now = first.get(key, ABSENT), second.get(key, ABSENT)
        if before != now and marks.get(key) != "content":
            short = key.removeprefix("stages.")
            changes.append(Change(key=short, before=before, now=now, accepted=marks.get(key) == "may change"))
    return changes


def changed_files(there: Mapping[str, Mapping[str, str]], here: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Files whose content has changed since the run began. A file may move if its content stays equal.

    Example: ["sft.task.files.train: /data/train.jsonl has other content"].
    """
    texts = []
    for key in {**there, **here}:
        before, now = there.get(key, {}), here.get(key, {})
        if list(before.values()) == list(now.values()):
            continue
        known = set(before.values())
        other = [path for path, checksum in now.items() if checksum not in known]
        gone = [path for path, checksum in before.items() if checksum not in set(now.values())]
        if not before:
            what = f"{next(iter(now))} is read now, but was not when the run began"
        elif other:
            what = f"{other[0]} has other content than when the run began"
        else:
            what = f"{gone[0]} is missing" if gone else "the files are in another order"
        texts.append(f"{key}: {what}")
    return texts


def science(node: Any) -> Any:
    """A recipe or a section of it as JSON, without the marked fields."""
    if isinstance(node, BaseModel):
        fields = type(node).model_fields
        return {name: science(getattr(node, name)) for name in fields if _mark(fields[name]) is None}
    if isinstance(node, tuple | list):
        return [science(item) for item in node]
    return str(node) if isinstance(node, Path) else node


def contents(node: Any) -> dict[str, list[str]]:
    """Key -> XXH3 of the content of every file that a section names, in order; no path is in it.

    Raises ConfigError when one cannot be read.
    """
    return {key: list(files.values()) for key, files in _files(node)}


def _marked_leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Mark, Any]]:
    """(key as in `leaves`, mark, JSON value) of every marked scalar; everything below a mark is marked."""
    if isinstance(node, BaseModel):
        dumped = node.model_dump(mode="json")
        for name, field in type(node).model_fields.items():
            key, mark = f"{prefix}.{name}" if prefix else name, _mark(field)
            if mark is None:
                yield from _marked_leaves(getattr(node, name), key)
            else:
                yield from ((leaf, mark, value) for leaf, value in leaves(dumped[name], key))
    elif isinstance(node, tuple | list):
        for index, item in enumerate(node):
            yield from _marked_leaves(item, f"{prefix}.{getattr(item, 'name', index)}")


def _mark(field: FieldInfo) -> Mark | None:
    extra = field.json_schema_extra
    return extra.get(AT_RESUME) if isinstance(extra, dict) else None  # type: ignore[return-value]


def _files(node: Any) -> Iterator[tuple[str, dict[str, str]]]:
    for key, mark, value in _marked_leaves(node):
        if mark == "content" and value is not None:
            short = key.removeprefix("stages.")
            yield short, {str(path): _checksum(path, short) for path in _matching(Path(value))}


def _matching(path: Path) -> list[Path]:
    """The files that a path stands for: itself, a pattern's matches, or the files of a model directory."""
    if path.is_dir():
        return sorted(file for kind in _MODEL_FILES for file in path.glob(kind))
    if any(letter in str(path) for letter in "*?["):
        return sorted(Path(file) for file in glob.glob(str(path), recursive=True) if Path(file).is_file())
    return [path]


def _checksum(path: Path, key: str) -> str:
    try:
        return file_checksum(path)
    except OSError as error:
        raise ConfigError(f"{key}: {path} cannot be read ({error})\n  fix: check the path") from error
