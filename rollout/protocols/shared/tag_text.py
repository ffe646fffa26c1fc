"""Spelling of element tags and their numbers."""

import re

_INDEX = re.compile(r"\s*([0-9]{1,6}(?:\s*\.\s*[0-9]{1,6})*)\s*:")
_DOT = re.compile(r"\s*\.\s*")

Index = tuple[int, ...]
"""Number of an element among its siblings: (1, 2) is spelled "1.2"."""


def opening(name: str) -> str:
    """The tag that opens an element."""
    return f"<{name}>"


def closing(name: str) -> str:
    """The tag that closes an element."""
    return f"</{name}>"


def read_index(text: str) -> tuple[Index, int] | None:
    """-> (the number that a text begins with, as in "1:" or " 1.2 :"; position behind its colon), or None."""
    match = _INDEX.match(text)
    if match is None:
        return None
    return tuple(int(number) for number in _DOT.split(match[1])), match.end()


def spell_index(index: Index) -> str:
    """The number as text: (1, 2) is "1.2"."""
    return ".".join(str(number) for number in index)
