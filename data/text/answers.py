r"""Where the answer stands in a text. Pure functions: a text in, a range of characters (or None) out.

Every range is free of white space at both ends and not empty. Nothing is evaluated. Sources of the rules:
    tagged       the text behind the last `<answer>`, up to `</answer>` or the end
    boxed        the last `\boxed{}` or `\fbox{}` of MATH (arXiv 2103.03874), by counting braces
    after        the line behind the last marker: GSM8K's `####`, Parallel-R1's `Final Answer:`
    last_number  the last number of the text
    choice       the last letter that is given as a choice
    code         the last closed fenced block
    whole        all of it
"""

import re
from collections.abc import Sequence
from typing import Literal

Range = tuple[int, int]
"""Characters `start:stop` of a text."""
Scope = Literal["whole", "after_think"]
"""Where an answer may stand: anywhere, or behind the end of the model's thinking."""

_BOX = re.compile(r"(?P<box>\\(?:boxed|fbox)(?![A-Za-z]))\s*(?P<brace>\{)?")
_BRACE = re.compile(rf"{_BOX.pattern}|\\.|(?P<close>\}})|(?P<open>\{{)", re.DOTALL)
_MOST_NESTED = 8
"""Most boxes that hold nothing but a box and are opened."""
_BARE = re.compile(r"[^\s${}\\,.;]+")
_NUMBER = re.compile(
    r"(?:(?<![\w)\].])[-−])?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)?(?:(?<![0-9])\.[0-9]+|(?<=[0-9])(?:\.[0-9]+)?)"
)
_FENCE = re.compile(r"^[ \t]*```[^\n`]*$", re.MULTILINE)
_THINK, _THOUGHT = "<think>", "</think>"


def after_think(text: str) -> int | None:
    """Position behind the last `</think>`; None while the model still thinks."""
    end = text.rfind(_THOUGHT)
    if end < 0 or text.rfind(_THINK) > end:
        return None
    return end + len(_THOUGHT)


def tagged(text: str) -> Range | None:
    """The text behind the last `<answer>`, up to `</answer>` if that follows."""
    start = text.rfind("<answer>")
    return None if start < 0 else up_to_closing(text, start + len("<answer>"), "</answer>")


def up_to_closing(text: str, start: int, closing: str) -> Range | None:
    """The text from `start` to the closing tag, or to the end where there is none."""
    stop = text.find(closing, start)
    return trimmed(text, start, len(text) if stop < 0 else stop)


def boxed(text: str) -> Range | None:
    r"""Content of the last `\boxed{...}` or `\fbox{...}`; braces nest, `\{` and `\}` do not count.

    An opening that is never closed is no box. A box whose content is one more box is opened too. `\boxed 5`
    holds what stands up to the next space.
    """
    closed = _boxes(text)
    content = trimmed(text, *closed[-1]) if closed else None
    for _ in range(_MOST_NESTED):
        inner = None if content is None else _BOX.match(text, content[0])
        if content is None or inner is None or inner["brace"] is None:
            break
        held = (inner.end() - content[0], content[1] - content[0] - 1)
        if _boxes(text[slice(*content)]) != [held]:
            break
        content = trimmed(text, inner.end(), content[1] - 1)
    return content


def _boxes(text: str) -> list[Range]:
    """Contents of all outermost boxes that are closed, in one pass."""
    opened: list[int | None] = []
    closed: list[Range] = []
    for token in _BRACE.finditer(text):
        box, brace = token["box"], token["brace"] or token["open"] or token["close"]
        if box is not None and brace is None:
            bare = _BARE.match(text, token.end())
            if bare is not None and bare.start() > token.start() + len(box):
                closed.append(bare.span())
        elif brace == "{":
            opened.append(None if box is None else token.end())
        elif brace == "}" and opened:
            start = opened.pop()
            if start is not None:
                while closed and closed[-1][0] > start:
                    closed.pop()
                closed.append((start, token.start()))
    return closed


def after(text: str, markers: Sequence[str]) -> Range | None:
    """The rest of the line behind the last marker, or the next line with text; asterisks of bold text around
    it are left out. Markers are compared without regard to case.
    """
    pattern = re.compile("|".join(re.escape(marker) for marker in markers), re.IGNORECASE)
    start = next((match.end() for match in reversed(list(pattern.finditer(text)))), None)
    if start is None:
        return None
    while start < len(text) and (text[start].isspace() or text[start] == "*"):
        start += 1
    stop = text.find("\n", start)
    stop = len(text) if stop < 0 else stop
    while stop > start and (text[stop - 1].isspace() or text[stop - 1] == "*"):
        stop -= 1
    return trimmed(text, start, stop)


def last_number(text: str) -> Range | None:
    """The last number, with its sign and its thousands separators. A minus behind a word or a bracket is an
    operation, not a sign.
    """
    last = None
    for match in _NUMBER.finditer(text):
        if match.end() > match.start():
            last = match.span()
    return last


def choice(text: str, letters: str) -> Range | None:
    """The letter of the choice: the last that is called the answer, else the last in brackets, else the last
    capital letter that stands alone (not the words "A" and "I" in a sentence).
    """
    named = f"[{re.escape(letters)}]"
    patterns = (
        rf"(?i:answer|choice|option)\s*(?i:is|:)?\s*:?[\s*$({{\\a-z]*?\b({named})\b",
        rf"[({{]\s*(?:\\text\s*\{{\s*)?({named})\s*[)}}]",
        rf"(?<![\w'])({named})(?![\w'])(?!\s+[a-z])",
    )
    for pattern in patterns:
        found = list(re.finditer(pattern, text))
        if found:
            return found[-1].span(1)
    return None


def code(text: str) -> Range | None:
    """Content of the last fenced block that is closed."""
    last: Range | None = None
    opened: int | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence.end()
        else:
            last, opened = (opened, fence.start()), None
    return None if last is None else trimmed(text, *last)


def whole(text: str) -> Range | None:
    """All of the text."""
    return trimmed(text, 0, len(text))


def trimmed(text: str, start: int, stop: int) -> Range | None:
    """The range without white space at its ends; None when nothing is left."""
    inner = text[start:stop]
    left = start + len(inner) - len(inner.lstrip())
    right = stop - (len(inner) - len(inner.rstrip()))
    return (left, right) if left < right else None
