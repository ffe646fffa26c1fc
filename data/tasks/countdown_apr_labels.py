"""Exact labels of Countdown searches in APR's words (data.tasks.countdown_apr says what the lines are).

Each line is a step. A line that explores an operation is judged in the state of the node that was moved to
last, or of any other that was written before: one line of thought does not always say where it moves.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from data.steps.step import UNLABELLED, Range, StepLabel
from data.tasks.countdown_goal import Goal

_N = r"[1-9][0-9]{0,8}"
_OPERATION = re.compile(rf"({_N})([-+*/])({_N})=({_N})")
_LIST = rf"\[({_N}(?:, {_N})*)\]"
_EXPLORED = re.compile(rf"Exploring Operation: (\S+), Resulting Numbers: {_LIST}")
_GENERATED = re.compile(rf"Generated Node #([0-9,]+): ({_N}):{_LIST} Operation: (\S+)")
_MOVED = re.compile(r"Moving to Node #([0-9,]+)")
_STATE = re.compile(rf"Current State: ({_N}):{_LIST}, Operations: \[(.*)\]")
_VERDICT = re.compile(rf"({_N}),({_N}) (equal: Goal Reached|unequal: No Solution)")
_BEGIN = re.compile(
    "(?=Exploring Operation:|Generated Node #|Moving to Node #|Current State:|No solution found)"
)
_FALSE = StepLabel(valid=False, reachable=False)
State = tuple[int, ...]


def cut_line(segment: str) -> list[Range]:
    """Ranges of the steps of a line of text: one, or several where lines were joined by spaces."""
    begins = sorted({0, *(match.start() for match in _BEGIN.finditer(segment))})
    stops = [*begins[1:], len(segment)]
    return [(begin, stop) for begin, stop in zip(begins, stops, strict=True) if segment[begin:stop].strip()]


def label_lines(goal: Goal, before: Sequence[str], steps: Sequence[str]) -> tuple[StepLabel, ...]:
    """[S] labels of the lines of one call; see `StepLabelledTask.label_steps`."""
    reader = _Reader(goal=goal, state=goal.numbers)
    for step in before:
        reader.read(step)
    return tuple(reader.read(step) for step in steps)


@dataclass(kw_only=True, slots=True)
class _Reader:
    """Reads lines in order, and keeps the state of every node that was written."""

    goal: Goal
    state: State
    """The state of the node that was moved to last."""
    node: str = "0"
    nodes: dict[str, State] = field(default_factory=dict)
    explored: State = ()
    """What the last operation leaves."""

    def read(self, line: str) -> StepLabel:
        """The label of a line, by what has been read before it."""
        if found := _EXPLORED.fullmatch(line):
            return self._explore(found[1], _numbers(found[2]))
        if found := _GENERATED.fullmatch(line):
            return self._generate(found[1], int(found[2]), _numbers(found[3]), found[4])
        if found := _MOVED.fullmatch(line):
            self.node = found[1]
            self.state = self.nodes.get(self.node, self.state)
            return UNLABELLED
        if found := _STATE.fullmatch(line):
            return self._arrive(int(found[1]), _numbers(found[2]), found[3])
        if found := _VERDICT.fullmatch(line):
            return self._judge(int(found[1]), int(found[2]), equal=found[3].startswith("equal"))
        return self._chain(line)

    def _explore(self, operation: str, numbers: State) -> StepLabel:
        """A move that is looked at; one line of thought does not say which node it moves to."""
        right = False
        for state in (self.state, *reversed(self.nodes.values()), self.goal.numbers):
            after = self._after(state, operation)
            if after is not None and sorted(after) == sorted(numbers):
                self.state, right = state, True
                break
        self.explored = numbers
        return StepLabel(valid=right, reachable=self.goal.is_reachable(numbers))

    def _generate(self, node: str, target: int, numbers: State, operation: str) -> StepLabel:
        parent = node.rpartition(",")[0]
        above = self.goal.numbers if parent == "0" else self.nodes.get(parent, self.state)
        after = self._after(above, operation)
        self.nodes[node] = numbers
        right = target == self.goal.target and after is not None and sorted(after) == sorted(numbers)
        return StepLabel(valid=right, reachable=self.goal.is_reachable(numbers))

    def _arrive(self, target: int, numbers: State, operations: str) -> StepLabel:
        """The state of a node with all operations that lead to it from the problem's numbers."""
        self.nodes[self.node] = self.state = numbers
        values: State | None = self.goal.numbers
        for operation in operations.split(", ") if operations else ():
            values = None if values is None else self._after(values, operation.strip("'"))
        right = target == self.goal.target and values is not None and sorted(values) == sorted(numbers)
        return StepLabel(valid=right, reachable=self.goal.is_reachable(numbers))

    def _judge(self, value: int, target: int, *, equal: bool) -> StepLabel:
        """The last number against the target."""
        last = self.explored if len(self.explored) == 1 else self.state
        right = last == (value,) and target == self.goal.target and equal == (value == target)
        return StepLabel(valid=right, reachable=self.goal.is_reachable((value,)))

    def _chain(self, line: str) -> StepLabel:
        """An answer, in any words without further digits; a line without an operation claims nothing."""
        operations = [found.group() for found in _OPERATION.finditer(line)]
        if not operations:
            return UNLABELLED
        if re.search("[0-9]", _OPERATION.sub("", line)):
            return _FALSE
        values: State | None = self.goal.numbers
        for operation in operations:
            values = None if values is None else self._after(values, operation)
        if values is None:
            return _FALSE
        return StepLabel(valid=True, reachable=self.goal.is_reachable(values))

    def _after(self, values: State, operation: str) -> State | None:
        """The values after an operation such as `9*4=36`; None where it is untrue or cannot be made."""
        found = _OPERATION.fullmatch(operation)
        if found is None:
            return None
        after = self.goal.after(values, int(found[1]), found[2], int(found[3]))
        return after if after is not None and after[0] == int(found[4]) else None


def _numbers(text: str) -> State:
    return tuple(int(word) for word in text.split(", "))
