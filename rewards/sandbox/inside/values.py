"""Plain Python values as bytes and back, between the tests and a program that nobody trusts.

Decoding builds exact built-in types and nothing else: an object whose `__eq__` always says yes cannot cross,
and neither pickle nor marshal is asked to read what an enemy wrote. What is not plain crosses as a list that
stands for an object left where it is. A value is one letter and its contents; contents of variable size are
preceded by their length or count in four bytes.
"""

from __future__ import annotations

import builtins
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Export: TypeAlias = Callable[[object], list[Any]]
    Import: TypeAlias = Callable[[list[Any]], object]

_FUNCTIONS = "abs all any ascii bin chr divmod format hash hex len max min oct ord pow repr round sorted sum"
_BUILTIN_NAMES = {
    id(value): name
    for name, value in vars(builtins).items()
    if name in _FUNCTIONS.split() or (isinstance(value, type) and not name.startswith("_"))
}
"""Types and pure functions. `eval`, `open` and their like stay objects of their own side."""
_SEQUENCES: dict[type, bytes] = {list: b"l", tuple: b"t", set: b"S", frozenset: b"z"}
_MAKERS: dict[bytes, Any] = {letter: kind for kind, letter in _SEQUENCES.items()}


def refuse(value: object) -> list[Any]:
    """An `export` for lines on which only plain values go.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"a value of type {type(value).__name__} cannot leave the box")


def refused(tree: list[Any]) -> object:
    """An `import_` for lines on which only plain values come.

    Raises:
        ValueError: always.
    """
    raise ValueError("not a plain value")


def encode(value: object, export: Export = refuse) -> bytes:
    """The bytes of `value`; subclasses of built-in types become the type itself, read past any overridden
    method.

    `export` gives the list of plain values that stands for a value that is not plain.
    """
    parts: list[bytes] = []
    _put(value, export, parts)
    return b"".join(parts)


def _sized(letter: bytes, body: bytes) -> bytes:
    return letter + len(body).to_bytes(4, "big") + body


def _put(value: object, export: Export, parts: list[bytes]) -> None:
    if value is None:
        parts.append(b"N")
    elif value is True or value is False:
        parts.append(b"T" if value else b"F")
    elif isinstance(value, int):
        parts.append(_sized(b"i", b"%x" % int.__index__(value)))
    elif isinstance(value, str):
        parts.append(_sized(b"s", str.__str__(value).encode("utf-8", "surrogatepass")))
    elif isinstance(value, float):
        parts.append(_sized(b"f", float.hex(float.__float__(value)).encode()))
    elif isinstance(value, list | tuple | set | frozenset):
        kind = next(kind for kind in _SEQUENCES if isinstance(value, kind))
        items = list(kind.__iter__(value))  # type: ignore[attr-defined]
        parts.append(_SEQUENCES[kind] + len(items).to_bytes(4, "big"))
        for item in items:
            _put(item, export, parts)
    elif isinstance(value, dict):
        pairs = list(dict.items(value))
        parts.append(b"d" + len(pairs).to_bytes(4, "big"))
        for key, item in pairs:
            _put(key, export, parts)
            _put(item, export, parts)
    elif isinstance(value, bytes | bytearray):
        parts.append(_sized(b"b", bytes(value)))
    else:
        _put_rarer(value, export, parts)


def _put_rarer(value: object, export: Export, parts: list[bytes]) -> None:
    """A built-in by its name, a value of the standard library by its text, or what `export` makes of it."""
    if isinstance(value, complex):
        tree: list[Any] = ["complex", value.real, value.imag]
    elif isinstance(value, range):
        tree = ["range", value.start, value.stop, value.step]
    elif (name := _BUILTIN_NAMES.get(id(value))) is not None:
        tree = ["builtin", name]
    else:
        tree = _library_value(value) or export(value)
    parts.append(b"o")
    _put(tree, refuse, parts)


def _library_value(value: object) -> list[Any] | None:
    # Only a program that has imported the module can hold such a value.
    for module, kind in (("fractions", "Fraction"), ("decimal", "Decimal")):
        found = getattr(sys.modules.get(module), kind, None)
        if found is not None and type(value) is found:
            return [kind, str(value)]
    dates = sys.modules.get("datetime")
    if dates is None or type(value) not in (dates.date, dates.datetime, dates.time, dates.timedelta):
        return None
    moment: Any = value
    if type(value) is dates.timedelta:
        return ["timedelta", moment.days, moment.seconds, moment.microseconds]
    return [type(value).__name__, moment.isoformat()]


def decode(data: bytes, import_: Import = refused) -> Any:
    """The value that the bytes stand for.

    Args:
        data: what `encode` gave, or whatever an enemy sent instead.
        import_: gives the value for a list that `export` made.

    Raises:
        ValueError: the bytes are not such as `encode` gives.
    """
    try:
        value, end = _take(data, 0, import_)
    except (TypeError, LookupError, AttributeError, RecursionError, OverflowError, ArithmeticError) as error:
        raise ValueError(f"no value: {error}") from None
    if end != len(data):
        raise ValueError("no value: bytes left over")
    return value


def _take(data: bytes, at: int, import_: Import) -> tuple[Any, int]:
    letter = data[at : at + 1]
    if letter in (b"N", b"T", b"F"):
        return {b"N": None, b"T": True, b"F": False}[letter], at + 1
    if letter == b"o":
        tree, at = _take(data, at + 1, refused)
        return _from_tree(tree, import_), at
    size, at = int.from_bytes(data[at + 1 : at + 5], "big"), at + 5
    if at + size > len(data):  # each item has a byte at least, so this bounds counts as well
        raise ValueError("no value: cut off")
    if letter in (b"i", b"f", b"s", b"b"):
        body, at = data[at : at + size], at + size
        if letter == b"b":
            return body, at
        if letter == b"s":
            return body.decode("utf-8", "surrogatepass"), at
        return (int(body, 16) if letter == b"i" else float.fromhex(body.decode())), at
    if letter == b"d":
        pairs = {}
        for _ in range(size):
            key, at = _take(data, at, import_)
            pairs[key], at = _take(data, at, import_)
        return pairs, at
    items = []
    for _ in range(size):
        item, at = _take(data, at, import_)
        items.append(item)
    return _MAKERS[letter](items), at


def _from_tree(tree: Any, import_: Import) -> object:
    if not isinstance(tree, list) or not tree or not isinstance(tree[0], str):
        raise ValueError("not a value")
    kind, *rest = tree
    if kind in ("complex", "range"):
        return getattr(builtins, kind)(*rest)
    if kind == "builtin":
        if rest[0] not in _BUILTIN_NAMES.values():
            raise ValueError("not the name of a built-in")
        return getattr(builtins, rest[0])
    if kind == "Fraction":
        from fractions import Fraction

        return Fraction(rest[0])
    if kind == "Decimal":
        from decimal import Decimal

        return Decimal(rest[0])
    if kind == "timedelta":
        from datetime import timedelta

        return timedelta(*rest)
    if kind in ("date", "datetime", "time"):
        import datetime

        made: object = getattr(datetime, kind).fromisoformat(rest[0])
        return made
    return import_(tree)
