"""Lines of a search: text between tags and line ends, cut as the task writes its steps.

<try> 9 * 4 10 2 36 36 + 10 46 2 48 44 92 23 37 . <answer> ...
      |___________| |___________________________|   |_ ...
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from data.steps.step import Range

CutSegment = Callable[[str], list[Range]]
"""Ranges of the steps in a segment: a text without tags and line ends."""
_BORDER = re.compile(r"</?[A-Za-z][A-Za-z_]*>|<\|[^|<>]*\|>|\n")
_NUMBERS = frozenset({"<JOIN>", "<after>", "<choice>", "<Parallel>", "<budget>"})
"""Tags behind which protocols write numbers of threads, or how many there are."""
_INDEX = re.compile(r"\s*([0-9]+(?:\s*\.\s*[0-9]+)*)\s*:(?!\S)")
"""The number that some protocols write in front of a thread's text: `2 : ...`, `1.2: ...`."""
_NEXT_INDEX = re.compile(r"\s[0-9]+(?:\s*\.\s*[0-9]+)*\s*:\s*$")
_SEPARATOR = re.compile(r"[\s,;]+")


@dataclass(frozen=True, slots=True)
class _Segment:
    """The steps between two tags or line ends."""

    tag: str
    """The tag in front of it; "" where there is none."""
    index: str | None
    """The number in front of it."""
    steps: list[Range]


def line_ranges(text: str, cut_segment: CutSegment) -> list[Range]:
    """Ranges of characters of all steps, ascending."""
    return [each for segment in _segments(text, cut_segment) for each in segment.steps]


def shown_ranges(text: str, cut_segment: CutSegment) -> list[Range]:
    """Ranges of the steps that a context shows, in the order in which they are to be read.

    A thread that is named by a number (`<Outline> 2 : B ... <Thread> 2 : ...`) goes on with the steps that
    had this number under an earlier kind of tag, so they come once more in front of its own.
    """
    found: list[Range] = []
    ranks: dict[str, int] = {}
    numbered: dict[str, list[_Segment]] = {}
    for segment in _segments(text, cut_segment):
        if segment.index is not None:
            rank = ranks.setdefault(segment.tag, len(ranks))
            same = numbered.setdefault(segment.index, [])
            earlier = [each for each in same if ranks[each.tag] < rank and each.steps]
            found += earlier[-1].steps if earlier else []
            same.append(segment)
        found += segment.steps
    return found


def _segments(text: str, cut_segment: CutSegment) -> list[_Segment]:
    """The segments of a text; those without words or a number are left out."""
    found: list[_Segment] = []
    start, tag = 0, ""
    for border in (*_BORDER.finditer(text), None):
        stop = len(text) if border is None else border.start()
        index = _INDEX.match(text, start, stop)
        begin = start if index is None else index.end()
        last = _NEXT_INDEX.search(text, begin, stop)
        words = text[begin : stop if last is None else last.start()]
        is_number = tag in _NUMBERS and not words.strip(" 0123456789")
        if not is_number and (index is not None or words.strip()):
            steps = [(begin + first, begin + end) for first, end in cut_segment(words)]
            found.append(_Segment(tag, None if index is None else "".join(index[1].split()), steps))
        if border is not None:
            start, tag = border.end(), border.group()
    return found


def whole_segment(segment: str) -> list[Range]:
    """A segment as one step; none when it is empty."""
    return [(0, len(segment))] if segment.strip() else []


def word_ranges(segment: str) -> list[Range]:
    """Ranges of the words, which white space separates."""
    return [match.span() for match in re.finditer(r"\S+", segment)]


def matched_ranges(pattern: "re.Pattern[str]", segment: str) -> list[Range]:
    """Ranges of the steps that a pattern matches, each with the words in front of it that no step has, and
    what is left behind the last one.
    """
    found: list[Range] = []
    start = 0
    for stop in (*(match.end() for match in pattern.finditer(segment)), len(segment)):
        lead = _SEPARATOR.match(segment, start, stop)
        begin = start if lead is None else lead.end()
        if begin < stop:
            found.append((begin, stop))
        start = stop
    return found
