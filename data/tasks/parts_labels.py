"""Exact labels of the steps of multi-part arithmetic, in words and in questions.

A step ends behind each value that is written down. For "A = 3 * 4 - 5 B = 2 + 9":
    part       "A = 3 * 4 - 5", "What is 3 * 4 - 5?"      as the problem has it
    name       "A"                                        which part is worked out next; it claims nothing
    equation   "3 * 4 = 12", "- 5 = 7", "12 - 5 = 7"      of a part or, once that is complete, of the sum
    result     "A = 7", "7"                               of a part, or the answer
An equation is valid when its arithmetic is right. The goal is reachable as long as every part, as it was
written last, uses its own operands and has the right values on the way, and the sum adds the right results.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from data.steps.search_lines import matched_ranges
from data.steps.step import UNLABELLED, Range, StepLabel
from data.tasks.parts_arithmetic import NAMES, OPERATIONS, Chain, as_numbers, running
from data.tasks.parts_text import TOTAL, TextStyle, bracketed

_N = "[1-9][0-9]{0,8}(?![0-9])"
_EQUATION = rf"(?P<expression>[-+*() 0-9]{{1,160}})= (?P<value>{_N})"
"""Bounded, since a model can write anything: brackets of any depth, numbers of any length."""
_NUMBER = rf"^\s*(?P<number>{_N})\.?\s*$"
_PATTERNS: Mapping[TextStyle, "re.Pattern[str]"] = {
    "words": re.compile(
        rf"(?P<part>[A-F]) = (?P<chain>(?:{_N}|[A-F])(?: [-+*] (?:{_N}|[A-F]))+)(?! [-+*=])"
        rf"|(?P<solved>[A-F]) = (?P<result>{_N})(?! [-+*=])"
        rf"|(?:(?P<begun>[A-F]) (?:= )?)?{_EQUATION}"
        rf"|(?P<name>[A-F])(?! =)|{_NUMBER}"
    ),
    "questions": re.compile(rf"(?P<question>What is [^?]*\?)|{_EQUATION}|{_NUMBER}"),
}
_SUM = -1
"""Place of the sum among the parts."""


def cut_steps(segment: str, style: TextStyle) -> list[Range]:
    """Ranges of the steps of a segment."""
    return matched_ranges(_PATTERNS[style], segment)


def label_steps(
    chains: Sequence[Chain], style: TextStyle, before: Sequence[str], steps: Sequence[str]
) -> tuple[StepLabel, ...]:
    """[S] labels of the steps of one call; see `StepLabelledTask.label_steps`."""
    operands: list[tuple[int, ...]] = []
    values: list[tuple[int, ...]] = []
    for chain in chains:
        operands.append(as_numbers(chain.operands, [part[-1] for part in values]))
        values.append(running(operands[-1], chain.operations))
    reader = _Reader(chains=chains, operands=operands, values=values, style=style, listed=[])
    for step in before:
        reader.read(step)
    reader.listed = None
    return tuple(reader.read(step) for step in steps)


@dataclass(kw_only=True, slots=True)
class _Reader:
    """Reads steps in order; knows which part is worked on and what went wrong."""

    chains: Sequence[Chain]
    operands: Sequence[tuple[int, ...]]
    """[P] true numbers of each part, names replaced."""
    values: Sequence[tuple[int, ...]]
    """[P] true values after each operation."""
    style: TextStyle
    current: int = _SUM
    """The part that is worked on, else the sum."""
    just: int | None = None
    """The part that was completed last."""
    used: list[int] = field(default_factory=list)
    """Numbers of the present working, in order."""
    between: list[str] = field(default_factory=list)
    """Operations of the present working."""
    last: int | None = None
    """The value that the present working has come to."""
    said: dict[int, int] = field(default_factory=dict)
    """Place -> the value it came to; the sum's too."""
    wrong: set[int] = field(default_factory=set)
    """Places that have gone astray, as they were written last."""
    listed: list[int] | None
    """Parts that the context shows one after the other: all of them are the problem; None behind it."""
    whole: bool = False
    """Whether this call has seen the whole problem."""

    def read(self, step: str) -> StepLabel:
        """The label of a step, by what has been read before it."""
        found = _PATTERNS[self.style].search(step)
        if found is None:
            return UNLABELLED
        groups = {name: text for name, text in found.groupdict().items() if text is not None}
        readers: dict[str, Callable[[], StepLabel]] = {
            "chain": lambda: self._read_part(NAMES.index(groups["part"]), groups["chain"]),
            "question": lambda: self._read_question(groups["question"]),
            "result": lambda: self._read_result(NAMES.index(groups["solved"]), int(groups["result"])),
            "expression": lambda: self._read_equation(
                groups.get("begun"), groups["expression"], int(groups["value"])
            ),
            "name": lambda: self._begin(NAMES.index(groups["name"])),
            "number": lambda: self._read_number(int(groups["number"])),
        }
        label = next(reader() for name, reader in readers.items() if name in groups)
        if self.listed is not None and "chain" not in groups and "question" not in groups:
            self.listed = []
        return label

    def _label(self, valid: bool) -> StepLabel:
        return StepLabel(valid=valid, reachable=not self.wrong)

    def _begin(self, place: int) -> StepLabel:
        """From now on this part is worked on."""
        self.current = place if place < len(self.chains) else _SUM
        self.used, self.between, self.last = [], [], None
        return UNLABELLED

    def _read_part(self, place: int, text: str) -> StepLabel:
        right = place < len(self.chains) and self.chains[place].text == text
        return self._given(place, right)

    def _read_question(self, text: str) -> StepLabel:
        if text == TOTAL:
            self.whole = True
            self._begin(_SUM)
            return UNLABELLED
        texts = [f"What is {bracketed(chain.operands, chain.operations)}?" for chain in self.chains]
        places = [place for place, each in enumerate(texts) if each == text]
        # Of equal parts, the first that has not been read or worked out.
        seen = {*self.said, *(self.listed or ())}
        place = next((place for place in places if place not in seen), (*places, len(texts))[0])
        return self._given(place, bool(places))

    def _given(self, place: int, right: bool) -> StepLabel:
        """A part as the problem has it, or should have it."""
        self._begin(place)
        self.wrong.discard(place)
        if not right:
            self.wrong.add(place)
        if self.listed is None:
            return self._label(right)
        self.listed.append(place)
        if self.listed[-len(self.chains) :] == [*range(len(self.chains))]:
            self.whole = True
            self._begin(_SUM)
            return UNLABELLED
        return self._label(right)

    def _read_result(self, place: int, value: int) -> StepLabel:
        if place >= len(self.chains):
            return self._label(False)
        return self._state(place, value, value == self.said.get(place, self.values[place][-1]))

    def _state(self, place: int, value: int, valid: bool) -> StepLabel:
        """The part is said to come to this value."""
        self._complete(place, value)
        (self.wrong.discard if value == self.values[place][-1] else self.wrong.add)(place)
        return self._label(valid)

    def _complete(self, place: int, value: int) -> None:
        self.said[place] = value
        if self.current == place:
            self._begin(_SUM)
        self.just = place if place != _SUM else None

    def _read_equation(self, name: str | None, expression: str, value: int) -> StepLabel:
        if name is not None:
            self._begin(NAMES.index(name))
        words = re.findall(r"[0-9]+|[-+*()]", expression)
        goes_on = bool(words) and words[0] in OPERATIONS
        if goes_on and self.last is None:
            return self._label(False)
        numbers = [str(self.last), *words] if goes_on else words
        come_to = _from_left(numbers) if self.style == "words" else _evaluated(numbers)
        first = next((word for word in words if word.isdigit()), "")
        goes_on = goes_on or (self.style == "questions" and first == str(self.last))
        if not goes_on:
            self._begin(self._place_of(words))
        taken = [int(word) for word in words if word not in OPERATIONS and word not in "()"]
        self.used += taken if not goes_on or words[0] in OPERATIONS else taken[1:]
        self.between += [word for word in words if word in OPERATIONS]
        self.last = value
        (self.wrong.discard if self._is_on_track(value) else self.wrong.add)(self.current)
        label = self._label(come_to == value)
        total = len(self.chains if self.current == _SUM else self.operands[self.current])
        if len(self.used) >= total:
            self._complete(self.current, value)
        return label

    def _place_of(self, words: Sequence[str]) -> int:
        """What a new working belongs to: the part at hand; once that has been begun, or without one, the sum
        if it adds results, else a part that begins like it.
        """
        if self.current != _SUM and not self.used:
            return self.current
        numbers = tuple(int(word) for word in words if word.isdigit())
        if set(words[1::2]) <= {"+"} and self._are_results(numbers):
            return _SUM
        if self.current != _SUM:
            return self.current
        places = (place for place, each in enumerate(self.operands) if each[: len(numbers)] == numbers)
        return next((place for place in places if place not in self.said), _SUM)

    def _are_results(self, numbers: Sequence[int]) -> bool:
        return Counter(numbers) <= Counter(part[-1] for part in self.values)

    def _is_on_track(self, value: int) -> bool:
        """Whether the working so far, which has come to this value, is the beginning of the right one."""
        if self.current == _SUM:
            return set(self.between) <= {"+"} and self._are_results(self.used) and sum(self.used) == value
        operands, operations = self.operands[self.current], self.chains[self.current].operations
        count = len(self.between)
        return (
            tuple(self.used) == operands[: len(self.used)]
            and tuple(self.between) == operations[:count]
            and 0 < count == len(self.used) - 1
            and self.values[self.current][count - 1] == value
        )

    def _read_number(self, value: int) -> StepLabel:
        """A result without a name: the answer, or what the thread's own part comes to."""
        gold = sum(part[-1] for part in self.values)
        if self.current != _SUM and not (self.whole and value == gold):
            return self._state(self.current, value, value == self.values[self.current][-1])
        if _SUM in self.said:
            return StepLabel(valid=value == self.said[_SUM], reachable=value == gold)
        if self.just is not None and value == self.said[self.just]:
            return self._label(True)
        if self.whole:
            return StepLabel(valid=value == gold, reachable=value == gold)
        return UNLABELLED if self.just is None else self._state(self.just, value, False)


def _from_left(words: Sequence[str]) -> int | None:
    """The value of numbers with operations between them, without precedence; None for anything else."""
    if len(words) % 2 == 0 or len(words) < 3 or not all(word.isdigit() for word in words[0::2]):
        return None
    if not all(word in OPERATIONS for word in words[1::2]):
        return None
    return running([int(word) for word in words[0::2]], list(words[1::2]))[-1]


def _evaluated(words: Sequence[str]) -> int | None:
    """The value of an expression in usual notation, brackets included; None for anything else.

    Example: "( 2 + 3 ) * 4" is 20 and "2 + 3 * 4" is 14.
    """
    left = list(words)

    def factor() -> int:
        word = left.pop(0)
        if word == "(":
            value = total()
            if left.pop(0) != ")":
                raise ValueError("a bracket is not closed")
            return value
        return int(word)

    def product() -> int:
        value = factor()
        while left and left[0] == "*":
            left.pop(0)
            value *= factor()
        return value

    def total() -> int:
        value = product()
        while left and left[0] in "+-":
            value = OPERATIONS[left.pop(0)](value, product())
        return value

    try:
        value = total()
    except (ValueError, IndexError):
        return None
    return None if left or len(words) < 3 else value
