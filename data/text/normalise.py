r"""Normal forms of answers, so that a vote counts "42", " 42.0" and "\boxed{42}" as one. Pure functions.

A normal form decides which answers are counted together and nothing else: whether an answer is right is for
the verifier. What a normaliser cannot read gets the form of `text`; nothing is evaluated.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Literal

NormaliserName = Literal["exact", "text", "number", "math", "choice"]

_LONGEST_NUMBER = 64
"""Most characters of a number that is read as one."""
_NUMBER = re.compile(r"([-+]?)([0-9]*\.?[0-9]+|[0-9]+\.)(?:/([0-9]+))?")
_GROUPED = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")
_LETTER = re.compile(r"\(?\s*([A-Za-z])\s*(?:[).:].*)?", re.DOTALL)
_WRAPPED = re.compile(r"\\(?:boxed|fbox|text|mathrm|textbf|mathbf)\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{([^{}]+)\}\s*\{([^{}]+)\}|([0-9])([0-9]))")
_NOISE = re.compile(
    r"\\(?:left|right|displaystyle|big|Big)(?![A-Za-z])|\\[!,;: ]|\^\s*\{?\\circ\}?|\\%|[$%~]"
)
_NAMED = re.compile(r"[A-Za-z]\s*=\s*(?=[^=]+$)")


def exact(answer: str) -> str:
    """The answer as it was written."""
    return answer


def text(answer: str) -> str:
    """Without regard to case, white space, and punctuation at both ends."""
    return " ".join(answer.split()).strip(" .,;:!?*\"'`").casefold()


def number(answer: str) -> str:
    """A number as a reduced fraction: `42`, `1,000`, `+0.50` and `1/2`; units of money and percent are left
    out.
    """
    bare = _GROUPED.sub("", answer.strip().lstrip("$€£ ").rstrip("$€£%. ").replace("−", "-").replace(" ", ""))
    match = _NUMBER.fullmatch(bare) if len(bare) <= _LONGEST_NUMBER else None
    if match is None or (match[3] is not None and not int(match[3])):
        return text(answer)
    value = Fraction(match[2]) / int(match[3] or 1)
    return str(-value if match[1] == "-" else value)


def math(answer: str) -> str:
    r"""LaTeX without what does not change its value: `$`, `\left`, spaces, `\text{}`, a box, `x =` in front;
    `\frac{1}{2}` and `0.5` are one.
    """
    bare = answer
    for _ in range(4):
        bare = _WRAPPED.sub(r"\1", bare)
    bare = _NOISE.sub("", bare).strip().rstrip(".")
    bare = _NAMED.sub("", bare, count=1) if _NAMED.match(bare) else bare
    bare = _FRACTION.sub(lambda found: f"{found[1] or found[3]}/{found[2] or found[4]}", bare)
    bare = "".join(bare.split())
    read = number(bare)
    return read if read != text(bare) else bare


def choice(answer: str) -> str:
    """The letter of a choice: `(B)`, `b.` and `B) 12 apples` are `B`."""
    match = _LETTER.fullmatch(answer.strip().strip("*$ "))
    return match[1].upper() if match is not None else text(answer)


NORMALISERS: dict[NormaliserName, Callable[[str], str]] = {
    "exact": exact,
    "text": text,
    "number": number,
    "math": math,
    "choice": choice,
}
"""All normalisers, by their names in recipes."""
