"""Exact labels of Countdown searches in words (data.tasks.countdown_solver says what the words are).

The steps of a text, for the numbers 10 9 4 2 and the target 38:
    move      "9 * 4 10 2 36"                  a first move, the untouched numbers, and its result
    message   "38 9 * 4 10 2"                  the target, a move and the other numbers, for another thread
    result    "36"                             what the move of a message gives
    look      "36 + 10 46 2 48 44 92 23 38 ."  a move, its result, the other number, what each operation makes
                                               of the two, the target, and the operation that hits, or none
    chain     "9 * 4 36 + 2 38 - 10"           all operations of an answer or a solution
A move is judged from the latest state above it that was written: a search goes down and up again.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from data.steps.search_lines import whole_segment, word_ranges
from data.steps.step import UNLABELLED, Range, StepLabel
from data.tasks.countdown_arithmetic import OPERATIONS, finals
from data.tasks.countdown_goal import Goal
from data.tasks.countdown_solver import FORBIDDEN, MISS

_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_MOVE = 3
"""Words of a move: two operands around an operation."""
_LOOK = 7
"""Words behind the result in a look: the other number, four values, target, verdict."""
_FALSE = StepLabel(valid=False, reachable=False)
"""The label of a step that leaves no values to go on with."""
State = tuple[int, ...]
Move = tuple[int, str, int]


def cut_words(segment: str) -> list[Range]:
    """Ranges of the steps of a segment.

    A step begins at every move, but moves without anything between them are one chain. What stands before the
    first move is the result of an earlier one; before a move alone it is a message's target.
    """
    spans = word_ranges(segment)
    words = [segment[start:stop] for start, stop in spans]
    starts = _moves(words)
    if not starts:
        return whole_segment(segment)
    begins = [start for place, start in enumerate(starts) if not place or start - starts[place - 1] > _MOVE]
    if begins[0] > 0:
        is_message = len(starts) == 1 and len(words) - starts[0] <= _MOVE + _LOOK
        begins = [0, *begins[is_message:]]
    stops = [*begins[1:], len(words)]
    return [(spans[begin][0], spans[stop - 1][1]) for begin, stop in zip(begins, stops, strict=True)]


def _moves(words: Sequence[str]) -> list[int]:
    """Where moves begin: a number, an operation, a number. In `38 + 36 * 2` the first one is a verdict."""

    def is_move(place: int) -> bool:
        return (
            place + 2 < len(words)
            and words[place + 1] in OPERATIONS
            and _is_number(words[place])
            and _is_number(words[place + 2])
        )

    return [place for place in range(len(words)) if is_move(place) and not is_move(place + 2)]


def label_words(goal: Goal, before: Sequence[str], steps: Sequence[str]) -> tuple[StepLabel, ...]:
    """[S] labels of the steps of one call; see `StepLabelledTask.label_steps`."""
    reader = _Reader(goal=goal)
    for step in before:
        reader.read(step.split())
    if not reader.states:
        reader.write(goal.numbers)
    return tuple(reader.read(step.split()) for step in steps)


@dataclass(kw_only=True, slots=True)
class _Reader:
    """Reads steps in order, and keeps the values that the latest ones left."""

    goal: Goal
    states: dict[int, State] = field(default_factory=dict)
    """Number of values -> the latest state with so many; those below a newer one are gone."""
    pending: tuple[State, Move] | None = None
    """The last move without a result, behind the state that it is made in."""

    def read(self, words: Sequence[str]) -> StepLabel:
        """The label of a step, by what has been read before it."""
        starts = _moves(words)
        if not starts:
            return self._read_rest(words)
        if len(starts) * _MOVE == len(words):
            return self._read_chain(words)
        if starts[0] == 1:
            return self._read_message(words)
        if starts[0] > 1:
            return UNLABELLED
        move, tail = (int(words[0]), words[1], int(words[2])), words[_MOVE:]
        return self._read_move(move, tail) if _is_number(tail[-1]) else self._read_look(move, tail)

    def write(self, values: State) -> None:
        """From now on these values are there."""
        self.states = {size: state for size, state in self.states.items() if size > len(values)}
        self.states[len(values)] = values
        self.pending = None

    def _read_rest(self, words: Sequence[str]) -> StepLabel:
        """A problem, the result of the pending move, or something that claims nothing."""
        numbers = tuple(int(word) for word in words if _is_number(word))
        is_problem = len(numbers) == len(words) and numbers[:1] == (self.goal.target,)
        if is_problem and _same(numbers[1:], self.goal.numbers):
            self.write(numbers[1:])
            return UNLABELLED
        if self.pending is None or not words or not _is_number(words[0]):
            return UNLABELLED
        above, move = self.pending
        if len(words) > 1:
            return self._looked(above, move, words)
        after = self.goal.after(above, *move)
        rest = () if after is None else after[1:]
        self.write((numbers[0], *rest))
        right = after is not None and after[0] == numbers[0]
        return StepLabel(valid=right, reachable=self.goal.is_reachable((numbers[0], *rest)))

    def _read_message(self, words: Sequence[str]) -> StepLabel:
        """The target, a move and the untouched numbers: all that another thread needs."""
        move, rest = (int(words[1]), words[2], int(words[3])), words[1 + _MOVE :]
        state = (move[0], move[2], *(int(word) for word in rest if _is_number(word)))
        after = self.goal.after(state, *move)
        sound = self.goal.is_sound(state) and len(state) == 2 + len(rest)
        if sound or not self.states:
            self.write(state)
        self.pending = state, move
        right = sound and after is not None and words[0] == str(self.goal.target)
        return StepLabel(valid=right, reachable=after is not None and self.goal.is_reachable(after))

    def _read_move(self, move: Move, tail: Sequence[str]) -> StepLabel:
        """A move with its result, from a state with one value more; without it, from one with two more."""
        numbers = tuple(int(word) for word in tail if _is_number(word))
        if len(numbers) < len(tail):
            return _FALSE
        above = self.states.get(len(numbers) + 1, ())
        after = self.goal.after(above, *move)
        if after is not None and _same(after, numbers):
            self.write(after)
            return StepLabel(valid=True, reachable=self.goal.is_reachable(after))
        above = self.states.get(len(numbers) + 2, ())
        after = self.goal.after(above, *move)
        if after is not None and _same(after[1:], numbers):
            self.write(above)
            self.pending = above, move
            return StepLabel(valid=True, reachable=self.goal.is_reachable(after))
        self.write(numbers)
        return StepLabel(valid=False, reachable=self.goal.is_reachable(numbers))

    def _read_look(self, move: Move, tail: Sequence[str]) -> StepLabel:
        """A move with a verdict: of two numbers `R T V`, of three a look, with the untouched number first
        where it is the first move of all.
        """
        if len(tail) == _LOOK + 2 and tail[0] == tail[2]:
            tail = tail[1:]
        return self._looked(self.states.get(2 if len(tail) == 3 else 3, ()), move, tail)

    def _looked(self, above: State, move: Move, shown: Sequence[str]) -> StepLabel:
        """What is written behind a move in a state of two or three numbers: its result, and the rest."""
        after = self.goal.after(above, *move)
        values = tuple(int(word) for word in shown[: 1 if len(shown) == 3 else 2] if _is_number(word))
        if len(shown) not in (3, 1 + _LOOK) or len(values) < (1 if len(shown) == 3 else 2):
            return _FALSE
        self.write(values)
        right = after == values and shown[-2] == str(self.goal.target)
        if len(values) == 1:
            hits = [move[1]] if values[0] == self.goal.target else []
        else:
            made = finals(values[0], values[1], self.goal.cap)
            right = right and list(shown[2:-2]) == [FORBIDDEN if one is None else str(one) for one in made]
            hits = [op for op, one in zip(OPERATIONS, made, strict=True) if one == self.goal.target]
        right = right and shown[-1] in (hits or [MISS])
        return StepLabel(valid=right, reachable=self.goal.is_reachable(values))

    def _read_chain(self, words: Sequence[str]) -> StepLabel:
        """Operations one after the other, from any state that was written: a thread that was opened further
        down gives its own part of a solution.
        """
        ends = [self._chained(state, words) for state in self.states.values()]
        found = [values for values in ends if values is not None]
        return StepLabel(valid=bool(found), reachable=any(map(self.goal.is_reachable, found)))

    def _chained(self, values: State | None, words: Sequence[str]) -> State | None:
        """The values after all operations; None where one cannot be made."""
        for place in range(0, len(words), _MOVE):
            if values is None:
                return None
            values = self.goal.after(values, int(words[place]), words[place + 1], int(words[place + 2]))
        return values


def _is_number(word: str) -> bool:
    return _NUMBER.fullmatch(word) is not None


def _same(one: Sequence[int], other: Sequence[int]) -> bool:
    return sorted(one) == sorted(other)
