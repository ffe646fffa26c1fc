"""The library `reasoning-gym`: which of its data sets can be used, how they are set, and their items.

It is imported by the first function that needs it (3 s, 100 data sets), so only runs with this task pay.
Item i of a data set is drawn from the seed `seed + i`: two seeds share almost all items. So there is one seed
here, and nothing but the index tells items apart.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

SEED = 0
"""Seed of every data set."""
REFUSED: Mapping[str, str] = {
    "composite": "it is a mix itself; list its data sets here, each with its weight",
    "acre": "all its items are made at once from seed and size, so splits of any size would share some",
    "boxnet": "it comes without solutions, so nothing shows that its scorer accepts a right answer",
    "game_of_life_halting": "its scorer accepts any text where the right answer is True",
    "puzzle24": "its scorer accepts any four numbers that make 24, not only the ones given",
    "rush_hour": "it comes without solutions, so nothing shows that its scorer accepts a right answer",
}
"""Data sets that cannot be used, and why."""
_SET_HERE = ("seed", "size")
_GOLD_IN_METADATA = {
    "graph_color": "possible_answer",
    "propositional_logic": "example_answer",
    "rubiks_cube": "example_correct_answer",
}
"""Data sets that have no answer of their own, but a right one in their metadata."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One puzzle of a data set, with a right answer."""

    question: str
    gold: str
    """A right answer; the scorer may accept others."""
    metadata: Mapping[str, Any]
    """Values that the data set's scorer uses."""


def names() -> list[str]:
    """The data sets that can be used, sorted.

    Raises:
        ValueError: the library is not installed.
    """
    return sorted(set(_registry()) - REFUSED.keys())


def check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Whether a data set exists, can be used, and takes these settings.

    Raises:
        ValueError: in words, what is wrong, with the nearest name or the library's own reason.
    """
    registry = _registry()
    if name in REFUSED:
        raise ValueError(f"data set {name!r} cannot be used: {REFUSED[name]}")
    if name not in registry:
        raise ValueError(f"there is no data set {name!r} in reasoning-gym{_nearest(name, names())}")
    defaults = {field.name: _default(field) for field in dataclasses.fields(registry[name][1])}
    for key, value in settings.items():
        if key in _SET_HERE:
            raise ValueError(f"data set {name!r}: {key!r} is set by the task; leave it out")
        if key not in defaults:
            known = [other for other in defaults if other not in _SET_HERE]
            raise ValueError(f"data set {name!r} has no setting {key!r}{_nearest(key, known)}")
        if not _fits(value, defaults[key]):
            raise ValueError(
                f"data set {name!r}: {key!r} must be like its default {defaults[key]!r}, found {value!r}"
            )
    make_dataset(name, settings, 1)


def make_item(name: str, settings: Mapping[str, Any], index: int) -> Item:
    """Item `index` of a data set: always the same one.

    Raises:
        ValueError: the data set has no such item, or cannot make it.
    """
    # Some data sets draw something for each item when they are built, one after the other: those are prefixes
    # of each other. Powers of two, so that few are built.
    size = max(1_024, 1 << index.bit_length())
    dataset = make_dataset(name, settings, size)
    try:
        entry = dataset[index]
    except (ValueError, IndexError, AssertionError, RuntimeError) as error:
        raise ValueError(f"data set {name!r} cannot make item {index} ({error})") from error
    metadata: dict[str, Any] = entry["metadata"]
    gold = entry["answer"]
    if name in _GOLD_IN_METADATA:
        found = metadata[_GOLD_IN_METADATA[name]]
        gold = found if isinstance(found, str) else json.dumps(found)
    return Item(question=str(entry["question"]), gold=str(gold), metadata=metadata)


def make_dataset(name: str, settings: Mapping[str, Any], size: int) -> Any:
    """The library's own object for a data set of `size` items.

    Raises:
        ValueError: the data set does not take the settings or the size.
    """
    return _make(name, json.dumps(dict(settings)), size)


def _registry() -> Mapping[str, tuple[Any, Any]]:
    try:
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise ValueError(
            f"the package reasoning-gym is not complete here ({error}); "
            "install it with: .venv/bin/pip install --no-deps -r requirements/reasoning_gym.txt"
        ) from error
    registry: Mapping[str, tuple[Any, Any]] = DATASETS
    return registry


@lru_cache(maxsize=256)
def _make(name: str, settings: str, size: int) -> Any:
    """A data set of the library. `settings` is JSON."""
    dataset_class, config_class = _registry()[name]
    defaults = {field.name: _default(field) for field in dataclasses.fields(config_class)}
    given = {
        key: tuple(value) if isinstance(defaults[key], tuple) else value
        for key, value in json.loads(settings).items()
    }
    try:
        config = config_class(**given, seed=SEED, size=size)
        return dataset_class(config)  # which validates it
    except (AssertionError, ValueError, TypeError) as error:
        raise ValueError(
            f"data set {name!r} takes neither these settings nor this size, {size} ({error})"
        ) from error


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _fits(value: object, default: object) -> bool:
    """Whether a value from a recipe has the type of a setting's default; with None, any scalar has it."""
    if default is None:
        return isinstance(value, str | int | float)
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    if isinstance(default, list | tuple):
        return isinstance(value, list | tuple)
    return isinstance(value, type(default))


def _nearest(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(known[:8])}, ..."
