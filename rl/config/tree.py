"""Recipes as plain mappings, before they are checked: addresses, merging, overrides, file paths."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rewards.verifiers.registry import from_shorthand

Address = tuple[str | int, ...]
"""Keys from the root; list items by index."""

_SPLITS = ("train", "validation", "test")
_VERIFIER = ("task", "verifier")
_PLACES = frozenset({"file", "hub"})
"""Keys of a source that say where its rows are."""
_SOURCES = tuple(("task", "params", split) for split in _SPLITS)
_TASK_FILES = (
    ("task", "files", "train"),
    ("task", "files", "validation"),
    ("task", "files", "test"),
    ("task", "params", "file"),
    ("task", "params", "test_file"),
    (*_VERIFIER, "file"),
    *((*source, "file") for source in _SOURCES),
)
PATH_KEYS = (("extensions",), ("model", "path"), ("scorer", "path"), *_TASK_FILES)
"""Where a recipe names files that must exist."""
STAGE_PATH_KEYS = (*_TASK_FILES, ("source", "files"), ("preferences",), ("by", "path"))
"""Where a stage names files: one name, or a list of them."""


def merge(base: Any, change: Any) -> Any:
    """`change` over `base`: mappings key by key, everything else (lists too) replaced.

    Three exceptions. Where `base` has a list of named items and `change` is a mapping, its keys are names of
    items and its values are merged into them; with an unknown name the mapping is kept, and validation fails.
    A verifier with another name replaces that of the base, since their keys differ. So does a source of rows
    that says where they are: `config`, `split` and `revision` belong to one data set.
    """
    if (
        isinstance(base, list)
        and isinstance(change, Mapping)
        and base
        and all(name_of(item) for item in base)
    ):
        names = [name_of(item) for item in base]
        if all(name in names for name in change):
            return [merge(item, change[name]) if (name := name_of(item)) in change else item for item in base]
        return change
    if isinstance(base, Mapping) and isinstance(change, Mapping):
        changed = {
            key: value if _replaces(key, base.get(key), value) else merge(base.get(key), value)
            for key, value in change.items()
        }
        return {**base, **changed}
    return change


def _replaces(key: str, base: Any, change: Any) -> bool:
    """Whether a mapping stands for the whole of what the base has under this key."""
    if key == _VERIFIER[-1]:
        return name_of(change) not in (None, name_of(base))
    return key in _SPLITS and isinstance(change, Mapping) and not _PLACES.isdisjoint(change)


def merge_stages(raw: dict[str, Any]) -> dict[str, Any]:
    """Fill in each stage's own `task` and `protocol` from the recipe's, unless it names another one."""
    stages = raw.get("stages")
    if not isinstance(stages, list):
        return raw
    return {**raw, "stages": [_merge_stage(raw, stage) for stage in stages]}


def _merge_stage(raw: Mapping[str, Any], stage: Any) -> Any:
    if not isinstance(stage, Mapping):
        return stage
    merged = dict(stage)
    for key in ("task", "protocol"):
        own, common = stage.get(key), raw.get(key)
        if (
            isinstance(own, Mapping)
            and isinstance(common, Mapping)
            and own.get("name", common.get("name")) == common.get("name")
        ):
            merged[key] = merge(common, own)
    return merged


def name_of(item: Any) -> str | None:
    """The name of a list item that has one (a stage, a reward)."""
    name = item.get("name") if isinstance(item, Mapping) else None
    return name if isinstance(name, str) else None


def dotted(raw: Any, location: Sequence[str | int]) -> tuple[str, Address]:
    """A pydantic error location -> (the key as `--set` takes it, its address in `raw`).

    Pydantic puts the tags of discriminated unions into locations; they are left out. List items with a name
    are addressed by it, and a stage needs no `stages.` in front.
    """
    labels: list[str] = []
    address: list[str | int] = []
    node = raw
    for part in location:
        if (
            isinstance(part, str)
            and isinstance(node, Mapping)
            and part not in node
            and part in (node.get("kind"), node.get("name"))
        ):
            continue
        address.append(part)
        node = child(node, part)
        labels.append(name_of(node) or str(part) if isinstance(part, int) else part)
    if len(labels) > 1 and labels[0] == "stages" and not labels[1].isdigit():
        del labels[0]
    return ".".join(labels), tuple(address)


def child(node: Any, part: str | int) -> Any:
    """The value under one key or index; None where there is none."""
    if isinstance(node, Mapping):
        return node.get(part)
    if isinstance(node, list) and isinstance(part, int) and -len(node) <= part < len(node):
        return node[part]
    return None


def value_at(raw: Any, address: Address) -> Any:
    """The value at an address; None where there is none."""
    node = raw
    for part in address:
        node = child(node, part)
    return node


def find(raw: Mapping[str, Any], key: str) -> Address | None:
    """The address of a dotted key, or None when it begins with neither a top-level key nor a stage.

    List items are named by name or index. The rest of the key may be new: the schema refuses unknown keys.
    """
    parts = key.split(".")
    stages = raw.get("stages")
    if parts[0] not in raw and isinstance(stages, list) and parts[0] in map(name_of, stages):
        parts.insert(0, "stages")
    address: list[str | int] = []
    node: Any = raw
    for part in parts:
        step: str | int = part
        if isinstance(node, list):
            names = [name_of(item) for item in node]
            if part in names:
                step = names.index(part)
            elif part.isdigit() and int(part) < len(node):
                step = int(part)
            else:
                return None
        address.append(step)
        node = child(node, step)
    return tuple(address)


def put(node: Any, address: Address, value: Any) -> Any:
    """A copy with `value` at `address`; missing mappings on the way are created."""
    if not address:
        return value
    part, rest = address[0], address[1:]
    if isinstance(node, list) and isinstance(part, int):
        return [put(item, rest, value) if index == part else item for index, item in enumerate(node)]
    known = dict(node) if isinstance(node, Mapping) else {}
    known[str(part)] = put(known.get(str(part)), rest, value)
    return known


def anchor(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make file names relative to `folder` absolute, since a run changes its working directory.

    Verifiers and data sources that are given by name alone become mappings, which may hold a file name.
    """
    places: list[Address] = list(PATH_KEYS)
    stages = raw.get("stages")
    # A file that builds on another may change its stages by name.
    names = range(len(stages)) if isinstance(stages, list) else stages if isinstance(stages, Mapping) else ()
    places += [("stages", name, *key) for name in names for key in STAGE_PATH_KEYS]
    for address in (_VERIFIER, *(("stages", name, *_VERIFIER) for name in names)):
        if (verifier := value_at(raw, address)) is not None:
            raw = put(raw, address, from_shorthand(verifier))
    for key in _SOURCES:
        for address in (key, *(("stages", name, *key) for name in names)):
            if isinstance(value := value_at(raw, address), str):
                raw = put(raw, address, {"file": value})
    for address in places:
        value = value_at(raw, address)
        if isinstance(value, str):
            raw = put(raw, address, str((folder / value).absolute()))
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            raw = put(raw, address, [str((folder / item).absolute()) for item in value])
    return raw


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every scalar with its dotted key."""
    if isinstance(value, Mapping):
        for key in value:
            yield from leaves(value[key], f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, f"{prefix}.{name_of(item) or index}" if prefix else str(index))
    else:
        yield prefix, value
