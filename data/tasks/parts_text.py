"""The texts of multi-part arithmetic: words for a tokenizer of their own, or questions for a chat model.

For the parts 3 * 4 - 5 and 2 + 9:
    words      prompt "A = 3 * 4 - 5 B = 2 + 9"
               part   "A = 3 * 4 - 5", worked out "3 * 4 = 12 - 5 = 7", solved "A = 7"
    questions  prompt "What is 3 * 4 - 5?", "What is 2 + 9?", "What is the sum of these answers?", a line each
               part   "What is 3 * 4 - 5?", worked out "3 * 4 = 12, 12 - 5 = 7", solved "7"

Words are read from the left, so questions put brackets where usual precedence would read another value:
"2 + 3 * 4" becomes "(2 + 3) * 4".
"""

from collections.abc import Sequence
from typing import Literal

from data.tasks.parts_arithmetic import EQUALS, NAMES, Chain, running, working

TextStyle = Literal["words", "questions"]
TOTAL = "What is the sum of these answers?"
"""Last line of a prompt in questions."""


def prompt_text(chains: Sequence[Chain], style: TextStyle) -> str:
    """Text of the whole problem, every part in order."""
    parts = [part_text(chain, place, style) for place, chain in enumerate(chains)]
    return " ".join(parts) if style == "words" else "\n".join([*parts, TOTAL])


def part_text(chain: Chain, place: int, style: TextStyle) -> str:
    """The part with index `place`, for a reader who has nothing else."""
    if style == "words":
        return f"{NAMES[place]} {EQUALS} {chain.text}"
    return f"What is {bracketed(chain.operands, chain.operations)}?"


def part_solution(place: int, result: int, style: TextStyle) -> str:
    """What the part with index `place` comes to."""
    return f"{NAMES[place]} {EQUALS} {result}" if style == "words" else str(result)


def worked(
    values: Sequence[int], operations: Sequence[str], written: Sequence[bool], style: TextStyle
) -> str:
    """The written working of a chain; `written[i]`: whether the value after operation i is written down."""
    if style == "words":
        return working(values, operations, written)
    equations: list[str] = []
    start: list[int] = [values[0]]
    between: list[str] = []
    results = running(values, operations)
    for place, (op, value, result) in enumerate(zip(operations, values[1:], results, strict=True)):
        start.append(value)
        between.append(op)
        if written[place] or place == len(operations) - 1:
            equations.append(f"{bracketed(start, between)} {EQUALS} {result}")
            start, between = [result], []
    return ", ".join(equations)


def bracketed(operands: Sequence[int | str], operations: Sequence[str]) -> str:
    """A chain in usual notation. Example: bracketed((2, 3, 4), ("+", "*")) == "(2 + 3) * 4"."""
    text, loose = str(operands[0]), False
    for op, operand in zip(operations, operands[1:], strict=True):
        if op == "*" and loose:
            text, loose = f"({text})", False
        text = f"{text} {op} {operand}"
        loose = loose or op != "*"
    return text
