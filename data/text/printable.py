"""Text from outside (problems, models, recipes) made safe to print in a terminal and to put into an SVG."""

import unicodedata

_HIDDEN = {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories of characters that terminals obey or XML forbids."""
_DIRECTIONS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of the text around them."""


def printable(text: str, keep: str = "") -> str:
    r"""The text with every control character as its escape; characters in `keep` stay as they are.

    Example: "a\x1b[31mb\n" becomes r"a\x1b[31mb\n".
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escape(character) if character not in keep and _is_hidden(character) else character
        for character in text
    )


def _is_hidden(character: str) -> bool:
    return character in _DIRECTIONS or unicodedata.category(character) in _HIDDEN


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
