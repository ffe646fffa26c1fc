"""Exact labels of the steps of a plan's working, in words and as a story.

A step ends behind each value that is written down. For "A = 3 B = 5 C = 2 after A B":
    step       "C = 2 after A B", "Step C takes 2 minutes and starts when steps A and B are done."
    name       "C", "Step C"                                 what is worked out next; it claims nothing
    equation   "max 3 5 = 5", "+ 2 = 7", "5 + 2 = 7"         of a step or, once that is done, of the plan
    end        "C ends 7", "C 7", "Step C is done after 7 minutes."
An equation is valid when its arithmetic is right. The goal is reachable as long as every step, as it was
written last, starts and ends when it does, and the last maximum is one of the right ends.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from data.steps.search_lines import matched_ranges
from data.steps.step import UNLABELLED, Range, StepLabel
from data.tasks.async_plan.plan import NAMES, Step, ends
from data.tasks.async_plan.solver import QUESTION, TextStyle

_N = "[0-9]{1,9}(?![0-9])"
_WORDS = (
    rf"(?P<step>[A-J]) = (?P<minutes>{_N})(?: after(?P<waits>(?: [A-J](?! (?:=|ends)))+))?(?! [+=])"
    rf"|(?P<ended>[A-J]) ends (?P<end>{_N})"
    rf"|(?:(?P<begun>[A-J]) )?(?P<expression>max(?: {_N})+|{_N} \+ {_N}|\+ {_N}) = (?P<value>{_N})"
    rf"|(?P<alone>[A-J]) (?P<result>{_N})|(?P<name>[A-J])(?! =)|(?P<number>{_N})"
)
_STORY = (
    rf"Step (?P<step>[A-J]) takes (?P<minutes>{_N}) minutes?"
    r"(?: and starts when steps? (?P<waits>[A-J, and]+) (?:is|are) done)?\."
    rf"|Step (?P<ended>[A-J]) is done after (?P<end>{_N}) minutes?\."
    rf"|(?:Step (?P<begun>[A-J]) )?"
    rf"(?P<expression>max\({_N}(?:, {_N})*\)|{_N} \+ {_N}|\+ {_N}) = (?P<value>{_N})"
    rf"|Step (?P<alone>[A-J]) (?P<result>{_N})|Step (?P<name>[A-J])|^\s*(?P<number>{_N})\.?\s*$"
)
_PATTERNS: Mapping[TextStyle, "re.Pattern[str]"] = {"words": re.compile(_WORDS), "story": re.compile(_STORY)}
_PLAN = -1
"""Place of the whole plan among its steps."""


def cut_steps(segment: str, style: TextStyle) -> list[Range]:
    """Ranges of the steps of a segment."""
    return matched_ranges(_PATTERNS[style], segment)


def label_steps(
    plan: Sequence[Step], style: TextStyle, before: Sequence[str], steps: Sequence[str]
) -> tuple[StepLabel, ...]:
    """[S] labels of the steps of one call; see `StepLabelledTask.label_steps`."""
    reader = _Reader(plan=plan, ends=ends(plan), style=style, listed=[])
    for step in before:
        reader.read(step)
    reader.listed = None
    return tuple(reader.read(step) for step in steps)


@dataclass(kw_only=True, slots=True)
class _Reader:
    """Reads steps in order; knows which step of the plan is worked on and what went wrong."""

    plan: Sequence[Step]
    ends: Sequence[int]
    """[S] true minute at which each is done."""
    style: TextStyle
    current: int = _PLAN
    """The step that is worked on, else the plan."""
    start: int | None = None
    """When the current step starts, as it was written; None before that."""
    said: dict[int, int] = field(default_factory=dict)
    """Place -> the end it came to; the plan's too."""
    wrong: set[int] = field(default_factory=set)
    """Places that have gone astray, as they were written last."""
    listed: list[int] | None
    """Steps that the context shows one after the other: all of them are the problem; None behind it."""
    whole: bool = False
    """Whether this call has seen the whole problem."""

    def read(self, text: str) -> StepLabel:
        """The label of a text, by what has been read before it."""
        if QUESTION in text:
            self.whole = True
            self._begin(_PLAN)
            return UNLABELLED
        found = _PATTERNS[self.style].search(text)
        if found is None:
            return UNLABELLED
        if found["step"] is not None:
            waits = re.findall(r"\b[A-J]\b", found["waits"] or "")
            return self._read_step(NAMES.index(found["step"]), int(found["minutes"]), waits)
        if self.listed is not None:
            self.listed = []
        if found["ended"] is not None:
            return self._read_end(NAMES.index(found["ended"]), int(found["end"]))
        if found["alone"] is not None:
            self._begin(NAMES.index(found["alone"]))
            return self._read_end(self.current, int(found["result"]))
        if found["name"] is not None:
            self._begin(NAMES.index(found["name"]))
            return UNLABELLED
        if found["number"] is not None:
            return self._read_number(int(found["number"]))
        if found["begun"] is not None:
            self._begin(NAMES.index(found["begun"]))
        return self._read_equation(found["expression"], int(found["value"]))

    def _begin(self, place: int) -> None:
        """From now on this step is worked on."""
        self.current, self.start = place if place < len(self.plan) else _PLAN, None

    def _mark(self, place: int, right: bool) -> None:
        (self.wrong.discard if right else self.wrong.add)(place)

    def _label(self, valid: bool) -> StepLabel:
        return StepLabel(valid=valid, reachable=not self.wrong)

    def _read_step(self, place: int, minutes: int, waits: Sequence[str]) -> StepLabel:
        needs = tuple(sorted(NAMES.index(name) for name in waits))
        right = place < len(self.plan) and self.plan[place] == Step(minutes=minutes, needs=needs)
        self._begin(place)
        self._mark(place, right)
        if self.listed is None:
            return self._label(right)
        self.listed.append(place)
        if self.listed[-len(self.plan) :] == [*range(len(self.plan))]:
            self.whole = True
            self._begin(_PLAN)
        return self._label(right)

    def _read_end(self, place: int, end: int) -> StepLabel:
        if not 0 <= place < len(self.plan):
            return self._label(False)
        valid = end == self.said.get(place, self.ends[place])
        self._complete(place, end)
        return self._label(valid)

    def _complete(self, place: int, end: int) -> None:
        self.said[place] = end
        self._mark(place, end == self.ends[place])
        if self.current == place:
            self._begin(_PLAN)

    def _read_equation(self, expression: str, value: int) -> StepLabel:
        numbers = [int(number) for number in re.findall("[0-9]+", expression)]
        if expression.startswith("max"):
            return self._read_maximum(numbers, value)
        if expression.startswith("+"):
            if self.start is None:
                return self._label(False)
            numbers = [self.start, *numbers]
        valid = sum(numbers) == value
        if self.current == _PLAN:
            # A sum says when a step is done: one that has not been worked out and takes so long.
            places = (place for place, step in enumerate(self.plan) if step.minutes == numbers[1])
            self._begin(next((place for place in places if place not in self.said), _PLAN))
        if self.current == _PLAN:
            self._mark(_PLAN, False)
            return self._label(valid)
        place, step = self.current, self.plan[self.current]
        on_track = numbers == [self._true_start(place), step.minutes]
        self._complete(place, value)
        self._mark(place, on_track and value == self.ends[place])
        return self._label(valid)

    def _read_maximum(self, numbers: Sequence[int], value: int) -> StepLabel:
        valid = max(numbers) == value
        if self.current == _PLAN:
            self.said[_PLAN] = value
            among = Counter(numbers) <= Counter(self.ends)
            self._mark(_PLAN, among and value == max(self.ends))
        else:
            needed = Counter(self.ends[need] for need in self.plan[self.current].needs)
            self._mark(self.current, Counter(numbers) == needed and value == self._true_start(self.current))
            self.start = value
        return self._label(valid)

    def _true_start(self, place: int) -> int:
        return max((self.ends[need] for need in self.plan[place].needs), default=0)

    def _read_number(self, value: int) -> StepLabel:
        """An end without a name: of the step at hand, else of the plan."""
        if self.current != _PLAN:
            return self._read_end(self.current, value)
        if not self.whole and _PLAN not in self.said:
            return UNLABELLED
        longest = max(self.ends)
        return StepLabel(valid=value == self.said.get(_PLAN, longest), reachable=value == longest)
