"""Loading of a recipe: YAML file, base, `--set` overrides, validation."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from data.errors import ConfigError
from rl.config.base import ConfigIssue
from rl.config.crosscheck import issues
from rl.config.explain import explain, nearest
from rl.config.extensions import load_extensions
from rl.config.recipe import Recipe
from rl.config.tree import anchor, dotted, find, leaves, merge, merge_stages, name_of, put, value_at
from rl.config.yaml_file import parse_value, problem_of, read_mapping

_LARGEST = 2**53
"""Largest whole number in a recipe: larger ones are not exact in JSON, and no key needs them."""


_SHOWN = 120
"""Longest part of a `--set` argument in error messages, in characters."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layers:
    """The recipe's mapping, and where each key came from."""

    raw: dict[str, Any]
    file: Path
    own: dict[str, Any]
    """The file's own mapping, without its base."""
    base: Path | None
    overrides: dict[str, str]
    """Dotted key -> the `--set` argument."""

    def source(self, key: str) -> str:
        """Source of `key`: the command line, the file, or its base."""
        for override, argument in self.overrides.items():
            if f"{key}.".startswith(f"{override}.") or override.startswith(f"{key}."):
                return f"{self.file} with --set {_cut(argument)}"
        if self.base is None:
            return str(self.file)
        address = find(self.raw, key)
        in_base = address is not None and value_at(self.own, address[:1]) is None
        return f"{self.base} (base of {self.file})" if in_base else str(self.file)


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Reads, merges and checks a recipe.

    Args:
        path: YAML file; its `base: other.yaml`, relative to it, is merged below it (one level only).
        overrides: `key=value`, the value in YAML: "rl.steps=3", "rewards.correct.weight=2".

    Raises:
        ConfigError: file, dotted key, value, reason and remedy of the first issue; or what is wrong with a
            file in `extensions`, which are loaded first.
    """
    layers = _apply(_read(Path(path)), overrides)
    raw = merge_stages(layers.raw)
    load_extensions(_extensions(raw))
    too_large = [_too_large(key) for key, value in leaves(raw) if _is_too_large(value)]
    if too_large:
        raise _first(too_large, layers)
    try:
        # Strict JSON mode: lists become tuples and strings paths, but nothing else is converted.
        recipe = Recipe.model_validate_json(json.dumps(raw, default=str), strict=True)
    except ValidationError as error:
        raise _first(explain(error, raw, Recipe), layers) from error
    found = list(issues(recipe))
    if found:
        raise _first(found, layers)
    return recipe.from_file(str(path))


def resolved(recipe: Recipe) -> dict[str, Any]:
    """The recipe with every default written out, as JSON; `load_recipe` reads it back to an equal recipe."""
    return recipe.model_dump(mode="json")


def _extensions(raw: Mapping[str, Any]) -> list[Path]:
    """The files to load first; what is not a list of names is refused by the schema."""
    names = raw.get("extensions")
    return [Path(name) for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _read(path: Path) -> _Layers:
    own = read_mapping(path)
    if "base" not in own:
        return _Layers(raw=anchor(own, path.parent), file=path, own=own, base=None, overrides={})
    name = own.pop("base")
    if not isinstance(name, str):
        reason, remedy = "must be one file name", "write base: other.yaml"
        raise ConfigIssue(key="base", value=name, reason=reason, remedy=remedy).error(str(path))
    base = path.parent / name
    if not base.is_file():
        reason, remedy = f"{base} does not exist", "name a recipe, relative to this file"
        raise ConfigIssue(key="base", value=name, reason=reason, remedy=remedy).error(str(path))
    below = read_mapping(base)
    if "base" in below:
        reason = f"{base} has a base itself, but only one level is allowed"
        raise ConfigIssue(key="base", value=name, reason=reason, remedy="use that base directly").error(
            str(path)
        )
    under, over = anchor(below, base.parent), anchor(own, path.parent)
    raw = {**merge(under, over), **_replaced_whole(under, over)}
    return _Layers(raw=raw, file=path, own=own, base=base, overrides={})


def _replaced_whole(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A protocol that the file names, or a task with another name, replaces that of the base: their
    parameters differ.
    """
    task, protocol = over.get("task"), over.get("protocol")
    other = name_of(task) not in (None, name_of(under.get("task")))
    return ({"task": task} if other else {}) | ({"protocol": protocol} if name_of(protocol) else {})


def _apply(layers: _Layers, overrides: Sequence[str]) -> _Layers:
    raw, arguments = layers.raw, dict(layers.overrides)
    for argument in overrides:
        key, equals, text = argument.partition("=")
        key = key.strip()
        if not key or not equals:
            source = f"{layers.file} with --set {_cut(argument)}"
            raise ConfigError(f"{source}: is not key=value\n  fix: write it like rl.steps=3")
        address = find(raw, key)
        known = {*Recipe.model_fields, *filter(None, map(name_of, _stages(raw)))}
        if address is None or (address[0] not in known and address[0] not in raw):
            begin = key.split(".")[0]
            remedy = nearest(begin, known) if begin not in known else "the list has no such item"
            issue = ConfigIssue(key=key, value=None, reason="there is no such key or stage", remedy=remedy)
            raise issue.error(f"{layers.file} with --set {_cut(argument)}")
        try:
            value = parse_value(text)
        except yaml.YAMLError as error:
            why = problem_of(error)
            raise ConfigError(
                f"{layers.file} with --set {_cut(argument)}: the value is not YAML ({why})\n  fix: quote it"
            ) from error
        raw = anchor(put(raw, address, value), Path.cwd())
        arguments[dotted(raw, address)[0]] = argument
    return _Layers(raw=raw, file=layers.file, own=layers.own, base=layers.base, overrides=arguments)


def _cut(argument: str) -> str:
    return argument if len(argument) <= _SHOWN else argument[: _SHOWN - 3] + "..."


def _is_too_large(value: Any) -> bool:
    return isinstance(value, int) and abs(value) > _LARGEST


def _too_large(key: str) -> ConfigIssue:
    reason, remedy = f"is a number beyond {_LARGEST}", "give a smaller one"
    return ConfigIssue(key=key.removeprefix("stages."), value=None, reason=reason, remedy=remedy)


def _stages(raw: Mapping[str, Any]) -> list[Any]:
    stages = raw.get("stages")
    return stages if isinstance(stages, list) else []


def _first(found: Sequence[ConfigIssue], layers: _Layers) -> ConfigError:
    issue = found[0]
    error = issue.error(layers.source(issue.key))
    more = [other.key for other in found[1:] if other.key != issue.key]
    if not more:
        return error
    return ConfigError(f"{error}\n  also wrong: {', '.join(dict.fromkeys(more))}")
