"""What can still be made of a Countdown problem: exact, by the values that are left.

A state is *sound* when it can be made from the problem's numbers, each used once, in whatever order; the goal
is *reachable* from a sound state whose values make the target.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from data.tasks.countdown_arithmetic import apply, reachable


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """A problem, as far as the labels of steps need it."""

    numbers: tuple[int, ...]
    target: int
    cap: int

    def is_sound(self, values: Sequence[int]) -> bool:
        """Whether these values can be left of the numbers.

        Example: of 9 4 2, the values 36 2 and 4 11 and 13 2 can, 36 4 cannot.
        """
        return _splits(tuple(sorted(self.numbers)), tuple(sorted(values)), self.cap)

    def is_reachable(self, values: Sequence[int]) -> bool:
        """Whether the values are sound and all of them together make the target."""
        return (
            bool(values)
            and self.is_sound(values)
            and self.target in reachable(tuple(sorted(values)), self.cap)
        )

    def after(self, values: Sequence[int], a: int, op: str, b: int) -> tuple[int, ...] | None:
        """The values after a move, its result first; None when an operand is missing or the rules forbid
        it.
        """
        result = apply(a, op, b, self.cap)
        left, operands = Counter(values), Counter((a, b))
        if result is None or not operands <= left:
            return None
        return (result, *(left - operands).elements())


def _splits(numbers: tuple[int, ...], values: tuple[int, ...], cap: int) -> bool:
    """Whether the numbers fall into one part for each value that makes it."""
    if not values or len(values) > len(numbers):
        return False
    if len(values) == 1:
        return values[0] in reachable(numbers, cap)
    # The first number is in the part of some value; try every such part.
    rest = numbers[1:]
    for mask in range(1 << len(rest)):
        part = (numbers[0], *(number for i, number in enumerate(rest) if mask >> i & 1))
        others = tuple(number for i, number in enumerate(rest) if not mask >> i & 1)
        made = reachable(part, cap)
        for place, value in enumerate(values):
            if value in made and _splits(others, values[:place] + values[place + 1 :], cap):
                return True
    return False
