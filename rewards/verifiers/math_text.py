"""Mathematical answers as text, before a parser sees them."""

import re

_EMPHASIS = re.compile(r"^(\*\*|__|\*|`)(.+)\1$", re.DOTALL)
_MATH = re.compile(r"\$\$(.+?)\$\$|(?<!\\)\$(.+?)(?<!\\)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_TEXT = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_UNIT = re.compile(
    r"^(?P<value>.*(?:[\d)}]|\\pi))\s*(?:\\[,;! ]|~)*\s*"
    r"(?:\\(?:text|textrm|mathrm|mbox)\s*\{\s*(?P<marked>[A-Za-z°][^{}]*)\}|\s(?P<plain>[A-Za-z]{2,}(?:\s[A-Za-z]+)*))"
    r"\s*(?:\^\s*\{?(?P<power>\d)\}?)?$",
    re.DOTALL,
)
_REPLACED = {
    "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "÷": "/", "π": r"\pi ", "∞": r"\infty ",
    "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\left": "",
    r"\right": "", r"\!": "", r"\,": " ", r"\;": " ", r"\:": " ", r"\displaystyle": "", "\u00a0": " ",
}  # fmt: skip
DEEPEST = 30
"""Deepest nesting of brackets that is parsed; the parser's time grows with a power of it."""


def last_box(text: str) -> str | None:
    r"""The content of the last `\boxed{...}`, with braces counted; None without a whole one."""
    start = text.rfind(r"\boxed{")
    if start < 0:
        return None
    depth = 0
    for index in range(start + len(r"\boxed"), len(text)):
        escaped = text[index - 1] == "\\"
        depth += (text[index] == "{" and not escaped) - (text[index] == "}" and not escaped)
        if depth == 0:
            return text[start + len(r"\boxed{") : index]
    return None


def read_math(text: str) -> str:
    r"""The mathematics of an answer: its last box, or its last formula where text stands around it.

    Example: "so $x = \dfrac12$." and "**\boxed{\frac{1}{2}}**" give `x = \frac{1}{2}` and `\frac{1}{2}`.
    """
    boxed = last_box(text)
    text = (text if boxed is None else boxed).strip()
    formulas = [next(filter(None, match.groups())) for match in _MATH.finditer(text)]
    if formulas and not (text.startswith(r"\$") and len(formulas) > 1):
        text = formulas[-1]
    for old, new in _REPLACED.items():
        text = text.replace(old, new)
    previous = None
    while text != previous:
        previous = text
        text = text.strip().rstrip(".").strip()
        text = match[2] if (match := _EMPHASIS.match(text)) else text
    text = re.sub(r"\\(?:text|mathrm|textbf|mathbf)\s*\{\s*(-?[\d.,/]+)\s*\}", r"\1", text)
    text = re.sub(r"\\sqrt\s*(\d)", r"\\sqrt{\1}", text)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{", text)
    text = re.sub(r"\\frac\s*(\{[^{}]*\})\s*(\d)", r"\\frac\1{\2}", text)
    return re.sub(r"(\d|\))\s*\*\*\s*(-?\d+)", r"\1^{\2}", text)


def plain(text: str) -> str:
    """The text without white space, commands for words, and case: for answers that are words."""
    return re.sub(r"[\s{}]|\\[ ,;!]", "", _TEXT.sub(r"\1", text)).casefold()


def split_unit(text: str) -> tuple[str, str]:
    r"""(value, unit): `12 \text{ cm}^2` -> ("12", "cm^2"), "18 dollars" -> ("18", "dollars"); no unit: "".

    A unit stands behind a value, as a word of two letters or more, or marked as text.
    """
    match = _UNIT.match(text)
    if match is None:
        degrees = re.sub(r"\s*(\^\s*\{?\s*\\circ\s*\}?|°)$", "", text)
        return (degrees, "degrees") if degrees != text else (text, "")
    word = (match["marked"] or match["plain"]).strip().casefold()
    if word in ("or", "and") or re.search(r"\b(or|and|to|if|where|for)\b", word):
        return text, ""
    word = re.sub(r"[.]$", "", word)
    singular = word[:-1] if len(word) > 3 and word.endswith("s") else word
    return match["value"], singular + (f"^{match['power']}" if match["power"] else "")


def split_name(text: str) -> tuple[str, str]:
    """(name, value) of `x = 5`; the name is "" where no single variable stands in front of the only `=`."""
    match = re.fullmatch(r"\s*\\?([A-Za-z](?:_\{?\w+\}?|')?)\s*=\s*([^=<>]+)", text, re.DOTALL)
    return (match[1], match[2].strip()) if match else ("", text)


def clock(text: str) -> tuple[int, ...] | None:
    """The parts of a time of day or a ratio, `12:30` -> (12, 30); None for other text."""
    if not re.fullmatch(r"\s*\d{1,9}(?:\s*:\s*\d{1,9})+\s*(?:[AaPp]\.?[Mm]\.?)?\s*", text):
        return None
    return tuple(map(int, re.findall(r"\d+", text)))


def too_deep(text: str) -> str | None:
    """Why a text is not worth parsing: brackets that do not close, or nest too deep. None: it is."""
    depth = deepest = 0
    for index, letter in enumerate(text):
        if letter in "{}" and text[index - 1 : index] != "\\":
            depth += 1 if letter == "{" else -1
            deepest = max(deepest, depth)
            if depth < 0:
                break
    if depth:
        return "its braces do not close"
    rounds = max((len(run) for run in re.findall(r"[(\[]+", text)), default=0)
    return f"its brackets nest more than {DEEPEST} deep" if max(deepest, rounds) > DEEPEST else None
