"""The arithmetic of Countdown: results of operations, moves of a state, and reachable values.

Every value is at least 1 and at most a cap. `-` is the absolute difference; `/` is the larger by the
smaller, exact and with a divisor above 1. So no operation depends on the order of its operands.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

OPERATIONS = ("+", "-", "*", "/")


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """Two values of a state replaced by the result of an operation on them: `a op b = result`, a >= b."""

    a: int
    op: str
    b: int
    result: int
    rest: tuple[int, ...]
    """The untouched values, in the state's order."""

    @property
    def state(self) -> tuple[int, ...]:
        """The values after the move: the result first."""
        return (self.result, *self.rest)


def apply(a: int, op: str, b: int, cap: int) -> int | None:
    """The value of `a op b`, or None when the rules forbid it or it exceeds `cap`.

    Example: apply(4, "-", 9, 60) == 5; apply(3, "/", 9, 60) == 3; apply(9, "*", 9, 60) is None.
    """
    large, small = (a, b) if a >= b else (b, a)
    if op == "+":
        value = large + small
    elif op == "-":
        value = large - small
    elif op == "*":
        value = large * small
    else:
        assert op == "/", op
        if small < 2 or large % small:
            return None
        value = large // small
    return value if 0 < value <= cap else None


def finals(c: int, d: int, cap: int) -> tuple[int | None, ...]:
    """[4] what each operation makes of the last two values, in the order of OPERATIONS."""
    return tuple(apply(c, op, d, cap) for op in OPERATIONS)


def moves(values: Sequence[int], cap: int) -> list[Move]:
    """Every move from a state, each once, in canonical order: pairs by position, then operations."""
    found: dict[tuple[int, str, int], Move] = {}
    for i, first in enumerate(values):
        for j in range(i + 1, len(values)):
            a, b = max(first, values[j]), min(first, values[j])
            rest = tuple(value for k, value in enumerate(values) if k not in (i, j))
            for op in OPERATIONS:
                result = apply(a, op, b, cap)
                if result is not None and (a, op, b) not in found:
                    found[a, op, b] = Move(a=a, op=op, b=b, result=result, rest=rest)
    return list(found.values())


@lru_cache(maxsize=1 << 16)
def reachable(numbers: tuple[int, ...], cap: int) -> frozenset[int]:
    """Values that use all `numbers` exactly once.

    The last operation joins two parts of the numbers, so the values of every split in two are combined;
    smaller parts recur between problems and are remembered.
    """
    if len(numbers) == 1:
        return frozenset(numbers)
    values: set[int] = set()
    splits: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
    # The first number always stays left, so each split is met once; equal numbers can still repeat one.
    for mask in range(1, 1 << (len(numbers) - 1)):
        left = tuple(value for i, value in enumerate(numbers) if i == 0 or not mask >> (i - 1) & 1)
        right = tuple(value for i, value in enumerate(numbers) if i > 0 and mask >> (i - 1) & 1)
        splits.add((left, right))
    for left, right in splits:
        for a in reachable(left, cap):
            for b in reachable(right, cap):
                large, small = (a, b) if a >= b else (b, a)  # `apply` written out: the inner loop
                if large + small <= cap:
                    values.add(large + small)
                if large > small:
                    values.add(large - small)
                if large * small <= cap:
                    values.add(large * small)
                if small > 1 and large % small == 0:
                    values.add(large // small)
    return frozenset(values)
