"""Nested tags of published formats: a tolerant parser over the marks of a call.

    <Parallel> <Outlines> <Outline> 1 : 9 * 4 </Outline> ... </Outlines>

A `Rule` defines where an element may stand. For any text `parse` returns elements and typed notes with their
positions; it never raises. Text is matched, never evaluated. A misplaced element stays in the tree, so that
one error gives one note and not a cascade.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from data.episodes.trajectory import ViolationKind
from rollout.protocols.shared.base import Mark, Note, Reading
from rollout.protocols.shared.tag_text import Index, closing, opening, read_index, spell_index


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One kind of element."""

    name: str
    within: tuple[str, ...]
    """Names of its possible direct parents; "" is the outermost level; () is nowhere."""
    indexed: bool = False
    """Whether its text begins with a number that is unique among its siblings."""
    holds: tuple[str, ...] = ()
    """Names of elements of which it must contain at least one."""
    misplaced: ViolationKind = ViolationKind.STRAY_TAG
    """Violation when one is opened where it is not allowed."""
    unopened: ViolationKind = ViolationKind.STRAY_TAG
    """Violation when one is closed that is not open."""


@dataclass(kw_only=True, slots=True)
class Element:
    """A stretch of text between an opening and a closing tag."""

    name: str
    open: Mark | None
    """Opening tag; None: it was open before this text began."""
    close: Mark | None = None
    """Closing tag; None: nothing closed it."""
    index: Index | None = None
    children: "list[Element]" = field(default_factory=list)
    misplaced: bool = False
    """Whether it, or an element around it, is where the rules do not allow it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Markup:
    """Elements and violations of a text."""

    elements: tuple[Element, ...]
    """Outermost elements in order, beginning with those that were open before."""
    notes: tuple[Note, ...]

    def walk(self) -> Iterator[Element]:
        """All elements, in the order in which they open."""
        waiting = list(reversed(self.elements))
        while waiting:
            element = waiting.pop()
            yield element
            waiting.extend(reversed(element.children))

    def ending_at(self, mark: Mark) -> Element | None:
        """The element that this tag closes."""
        return next((element for element in self.walk() if element.close is mark), None)

    def all(self, name: str) -> tuple[Element, ...]:
        """The elements of one kind, in the order in which they open."""
        return tuple(element for element in self.walk() if element.name == name)


def parse(
    reading: Reading, rules: Sequence[Rule], *, opened: Sequence[str] = (), left: Sequence[str] = ()
) -> Markup:
    """Elements of one call's output.

    Args:
        opened: names of the elements that were open before it, outermost first.
        left: names of the elements that may rightly be open at its end, outermost first.
    """

    def index_at(number: int) -> Index | None:
        following = reading.marks[number + 1] if number + 1 < len(reading.marks) else None
        found = read_index(reading.text(reading.marks[number], following))
        return None if found is None else found[0]

    return parse_marks(reading.marks, rules, opened=opened, left=left, end=reading.end, index_at=index_at)


def parse_marks(
    marks: Sequence[Mark],
    rules: Sequence[Rule],
    *,
    opened: Sequence[str] = (),
    left: Sequence[str] = (),
    end: int,
    index_at: Callable[[int], Index | None] = lambda number: None,
) -> Markup:
    """`parse` for bare marks. `end`: position behind the text. `index_at(n)`: the number behind mark n."""
    parser = _Parser(rules, opened)
    for number, mark in enumerate(marks):
        if mark.tag in parser.openings:
            rule = parser.openings[mark.tag]
            parser.open(rule, mark, index_at(number) if rule.indexed else None)
        elif mark.tag in parser.closings:
            parser.close(parser.closings[mark.tag], mark)
    parser.finish(left, end)
    return Markup(elements=tuple(parser.outermost), notes=tuple(parser.notes))


class _Parser:
    """The elements that are open now, and what was noted so far."""

    def __init__(self, rules: Sequence[Rule], opened: Sequence[str]) -> None:
        self.openings = {opening(rule.name): rule for rule in rules}
        self.closings = {closing(rule.name): rule for rule in rules}
        self.outermost: list[Element] = []
        self.notes: list[Note] = []
        self._stack: list[Element] = []
        self._open = Counter[str]()
        """Names on the stack, so that a misplaced tag is detected at once."""
        for name in opened:
            self._push(Element(name=name, open=None))

    def open(self, rule: Rule, mark: Mark, index: Index | None) -> None:
        """Read an opening tag: in place, after an element that should have been closed, or misplaced."""
        depth = self._place(rule)
        if depth is None:
            element = Element(name=rule.name, open=mark, index=index, misplaced=True)
            if not (self._stack and self._stack[-1].misplaced):
                inside = opening(self._stack[-1].name) if self._stack else "nothing"
                self._note(rule.misplaced, mark.start, f"{mark.tag} inside {inside}")
        else:
            self._close_down_to(depth, mark.start)
            around = self._stack[-1].misplaced if self._stack else False
            element = Element(name=rule.name, open=mark, index=index, misplaced=around)
        if rule.indexed and not element.misplaced:
            self._check_index(element, mark)
        self._push(element)

    def close(self, rule: Rule, mark: Mark) -> None:
        """Read a closing tag; it closes the innermost element of that name."""
        if not self._open[rule.name]:
            self._note(rule.unopened, mark.start, f"{mark.tag} closes nothing")
            return
        depth = len(self._stack)
        while self._stack[depth - 1].name != rule.name:
            depth -= 1
        self._close_down_to(depth, mark.start)
        element = self._pop()
        element.close = mark
        if rule.holds and not any(child.name in rule.holds for child in element.children):
            self._note(ViolationKind.NO_CHILDREN, mark.start, f"no {opening(rule.holds[0])} in it")

    def finish(self, left: Sequence[str], end: int) -> None:
        """Read the end of the text: note elements that should not be open."""
        names = [element.name for element in self._stack]
        rightly = next(
            (size for size in range(min(len(names), len(left)), 0, -1) if names[:size] == list(left[:size])),
            0,
        )
        self._close_down_to(rightly, end)

    def _place(self, rule: Rule) -> int | None:
        """Number of elements that stay open around a new one of this kind; None when it fits nowhere."""
        if any(self._open[name] for name in rule.within):
            return next(
                depth
                for depth in range(len(self._stack), 0, -1)
                if self._stack[depth - 1].name in rule.within
            )
        return 0 if "" in rule.within else None

    def _close_down_to(self, depth: int, position: int) -> None:
        """Close the innermost elements without their closing tags."""
        while len(self._stack) > depth:
            element = self._pop()
            if not element.misplaced:
                start = position if element.open is None else element.open.start
                self._note(ViolationKind.UNCLOSED_TAG, start, f"{opening(element.name)} is not closed")

    def _check_index(self, element: Element, mark: Mark) -> None:
        siblings = self._stack[-1].children if self._stack else self.outermost
        if element.index is None:
            self._note(ViolationKind.MISSING_INDEX, mark.start, f"no number behind {mark.tag}")
        elif any(sibling.index == element.index for sibling in siblings):
            detail = f"{spell_index(element.index)} is taken"
            self._note(ViolationKind.DUPLICATE_INDEX, mark.start, detail)

    def _push(self, element: Element) -> None:
        (self._stack[-1].children if self._stack else self.outermost).append(element)
        self._stack.append(element)
        self._open[element.name] += 1

    def _pop(self) -> Element:
        element = self._stack.pop()
        self._open[element.name] -= 1
        return element

    def _note(self, kind: ViolationKind, position: int, detail: str) -> None:
        self.notes.append(Note(kind=kind, position=position, detail=detail))


def text_behind(reading: Reading, name: str, allowed: Sequence[str]) -> tuple[Note, ...]:
    """TEXT_AFTER_END when something stands between the last closing tag of `name` and an `allowed` one."""
    close = reading.last(closing(name))
    if close is None:
        return ()
    behind = (mark for mark in reading.marks if mark.tag in allowed and mark.start >= close.stop)
    if not reading.text(close, next(behind, None)).strip():
        return ()
    return (Note(kind=ViolationKind.TEXT_AFTER_END, position=close.stop, detail=f"text behind {close.tag}"),)
