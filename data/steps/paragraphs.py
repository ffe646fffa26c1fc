r"""Paragraphs: text between empty lines ("\n\n"), the steps of most process reward models."""

import re

from data.steps.step import Range

_EMPTY_LINE = re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)+")


def paragraph_ranges(text: str) -> list[Range]:
    """Ranges of characters of all paragraphs that hold more than white space."""
    found: list[Range] = []
    start = 0
    for gap in (*_EMPTY_LINE.finditer(text), None):
        stop = len(text) if gap is None else gap.start()
        if text[start:stop].strip():
            found.append((start, stop))
        start = stop if gap is None else gap.end()
    return found
