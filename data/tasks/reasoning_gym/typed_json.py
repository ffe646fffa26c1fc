"""JSON that keeps what JSON loses: tuples, and keys that are no text.

Scorers of the library compare metadata with `==`, where (1, 2) is not [1, 2]. So a tuple is written as
{"!tuple": [...]} and a dictionary with other keys than text as {"!items": [[key, value], ...]}.
"""

import json
from typing import Any

_TUPLE, _ITEMS = "!tuple", "!items"


def write(value: object) -> str:
    """The text of a value made of dictionaries, lists, tuples, text, numbers, booleans and None.

    Raises:
        TypeError: it holds anything else.
    """
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def read(text: str) -> Any:
    """The value that `write` was given.

    Raises:
        ValueError: the text is not JSON, or a mark in it does not hold what it should.
    """
    return json.loads(text, object_hook=_restored)


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return {_TUPLE: [_plain(item) for item in value]}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value) and not {_TUPLE, _ITEMS} & value.keys():
            return {str(key): _plain(item) for key, item in value.items()}
        return {_ITEMS: [[_plain(key), _plain(item)] for key, item in value.items()]}
    if isinstance(value, str):
        return str(value)  # subclasses of str, such as numpy's, are plain text when they come back
    if value is None or isinstance(value, bool | int | float):
        return value
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _restored(value: dict[str, Any]) -> Any:
    if value.keys() == {_TUPLE}:
        return tuple(value[_TUPLE])
    if value.keys() == {_ITEMS}:
        return dict(value[_ITEMS])
    return value
