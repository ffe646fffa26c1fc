"""Chains of arithmetic: the text of a part of a problem, its value, and its written working.

A chain is read from the left, one operation after the other, without precedence: "2 + 3 * 4" is 20. An
operand is a number or the name of an earlier part. Every value on the way is at least 1.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

OPERATIONS: Mapping[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}
EQUALS = "="
NAMES = ("A", "B", "C", "D", "E", "F")
"""Names of the parts, in order."""
NUMBER = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """One part of a problem.

    Example: Chain(operands=(3, 4, "A"), operations=("*", "-")) is "3 * 4 - A".
    """

    operands: tuple[int | str, ...]
    """Numbers and names of earlier parts."""
    operations: tuple[str, ...]
    """One between each two operands."""

    @property
    def text(self) -> str:
        """Operands and operations, separated by spaces."""
        later = (f"{op} {operand}" for op, operand in zip(self.operations, self.operands[1:], strict=True))
        return " ".join([str(self.operands[0]), *later])

    @property
    def needs(self) -> tuple[int, ...]:
        """Indices of the parts that it names, each once, ascending."""
        return tuple(sorted({NAMES.index(name) for name in self.operands if isinstance(name, str)}))


def parse_chain(text: str, place: int) -> Chain:
    """Parse a text as the part with index `place` (0 is the first).

    Raises:
        ValueError: in words, what is wrong with it.
    """
    words = text.split()
    if len(words) < 3 or len(words) % 2 == 0:
        raise ValueError("is not `operand operation operand ...` with at least one operation")
    operands = tuple(_operand(word, place) for word in words[0::2])
    for word in words[1::2]:
        if word not in OPERATIONS:
            raise ValueError(f"holds {word!r} where one of {' '.join(OPERATIONS)} belongs")
    return Chain(operands=operands, operations=tuple(words[1::2]))


def _operand(word: str, place: int) -> int | str:
    if word in NAMES[:place]:
        return word
    if word in NAMES:
        raise ValueError(f"uses {word}, which is not an earlier part")
    if not NUMBER.fullmatch(word):
        raise ValueError(f"holds {word!r} where a number from 1 or an earlier part belongs")
    return int(word)


def as_numbers(operands: Sequence[int | str], results: Sequence[int]) -> tuple[int, ...]:
    """Operands with names replaced by the results of the parts they name."""
    return tuple(results[NAMES.index(o)] if isinstance(o, str) else o for o in operands)


def running(values: Sequence[int], operations: Sequence[str]) -> tuple[int, ...]:
    """The value after each operation. Example: running((3, 4, 5), ("*", "-")) == (12, 7)."""
    found = [values[0]]
    for op, value in zip(operations, values[1:], strict=True):
        found.append(OPERATIONS[op](found[-1], value))
    return tuple(found[1:])


def working(values: Sequence[int], operations: Sequence[str], written: Sequence[bool]) -> str:
    """The written working of a chain; `written[i]`: whether the value after operation i is written down.

    The last value is always written. Example, for 3 * 4 - 5: "3 * 4 = 12 - 5 = 7" with all of them, and
    "3 * 4 - 5 = 7" where the first is kept in the head.
    """
    words = [str(values[0])]
    steps = zip(operations, values[1:], running(values, operations), written, strict=True)
    for number, (op, value, result, shown) in enumerate(steps):
        words += [op, str(value)]
        if shown or number == len(operations) - 1:
            words += [EQUALS, str(result)]
    return " ".join(words)


def expanded(chains: Sequence[Chain]) -> list[str]:
    """Each part with the parts it names written out in brackets: its meaning, whatever they are called."""
    texts: list[str] = []
    for chain in chains:
        words = (f"( {texts[NAMES.index(w)]} )" if w in NAMES else w for w in chain.text.split())
        texts.append(" ".join(words))
    return texts
