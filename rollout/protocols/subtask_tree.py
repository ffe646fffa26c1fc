"""One line of thought that opens subtasks and drops their working from the context when they are done.

Source: TIM and TIMRUN (arXiv 2507.16784). As there:
  - a task is worked on in subtasks, these in subtasks of their own, and each ends with a conclusion;
  - when a subtask is finished its working leaves the context: the goal and the conclusion stay. So a thread
  can think for longer than its context is long.
A line of thought is sequential, unless it opens a list of subtasks at once: then each is a thread of its own
that sees the problem, the goals of the subtasks around it and its own goal, but none of the working. What
the parent sees behind the join is what it would see had it done them one after the other.

Not the published engine: TIMRUN prunes the KV cache in place, and what follows keeps its old positions and
its attention to what was pruned. Here every call reads the pruned text as a new causal token list: another
computation, the same for training and for use.

    call 0  task     <tree> 37 10 9 <think>
                                            <sub> 9 * 4 <think> 36 ... <done> <nothing> </sub>
    call 1  task     <tree> 37 10 9 <think> <sub> 9 * 4 <done> <nothing> </sub>
                                            <sub> 10 - 4 <and> 10 + 9 <run>
    call 2  subtask  <tree> 37 10 9 <sub> 10 - 4 <think>    6 ... <done> <nothing> </sub>
    call 3  subtask  <tree> 37 10 9 <sub> 10 + 9 <think>    19 ... <done> 10 + 9 ... </sub>
    call 4  task     ... <sub> 10 - 4 <done> <nothing> </sub> <sub> 10 + 9 <done> 10 + 9 ... </sub>
                                            <answer> 10 + 9 ... <eos>
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Literal

from pydantic import Field

from data.episodes.trajectory import Limit, Span, StopReason, ThreadOutcome, ViolationKind
from data.tasks.search_tree import SearchNode, SearchTree
from data.text.prompt import Prompt
from rollout.protocols.shared.answers import ANSWER_TAGS, RESULT_TAGS, ResultFormat
from rollout.protocols.shared.base import (
    EOS,
    Action,
    Ask,
    Continue,
    Fork,
    ForkingParams,
    Mark,
    Note,
    ProtocolCard,
    ProtocolParams,
    Reading,
    Return,
    Role,
    Tags,
    ThinkingProtocol,
    ThreadResult,
    ThreadView,
    cut_off,
    malformed,
)
from rollout.protocols.shared.search_text import needed_words, trace_words
from rollout.protocols.shared.tags import length


class SubtaskTreeParams(ForkingParams):
    """Recipe section of `subtask_tree`; how deep threads nest is `budgets.depth`."""

    name: Literal["subtask_tree"]
    """Name of the protocol."""
    call_tokens: int = Field(default=96, ge=1, le=10_000_000)
    """Most sampled tokens of one call: from one pruning of the context to the next."""
    calls: int = Field(default=32, ge=1, le=65_536)
    """Most calls of one thread."""
    style: Literal["at_once", "one_by_one"] = "at_once"
    """How demonstrations open subtasks that are independent."""


class SubtaskTree(ThinkingProtocol):
    """One line of thought with subtasks whose working leaves the context."""

    name: ClassVar[str] = "subtask_tree"
    params_class: ClassVar[type[ProtocolParams]] = SubtaskTreeParams
    roles: ClassVar[dict[str, Role]] = {
        "task": Role(
            opens="<tree>",
            instruction="{problem}\n\nWork in subtasks. Write <sub>, the goal, <think>, your work, <done>, "
            "the conclusion, </sub>; only goal and conclusion are kept. To work on several at once write "
            "<sub>, the goals with <and> between them, then <run>. {answer}",
        ),
        "subtask": Role(
            opens="<tree>",
            instruction="{problem}\n\nOf this problem solve the innermost of these subtasks only:\n"
            "{task}\n\nYou may work in subtasks of your own: <sub>, the goal, <think>, your work, <done>, "
            "the conclusion, </sub>. End with <done>, your conclusion, </sub>.",
        ),
    }
    role_tags: ClassVar[tuple[str, ...]] = ("<tree>",)
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="TIM, TIMRUN (arXiv 2507.16784)",
        child_context="the problem, the goals around it and its own",
        join="goal and conclusion of each; the working of a finished subtask is removed",
        exact="no: the published engine prunes its cache in place and keeps positions; here the pruned text "
        "is prefilled again (self-consistent)",
        trained="all sampled, in every thread",
        barrier="ALL; FIRST_K or FIRST_SUCCESS by recipe",
    )
    handles_needs: ClassVar[bool] = True

    _params: SubtaskTreeParams

    @classmethod
    def tags_of(cls, params: ProtocolParams) -> tuple[str, ...]:
        return (
            *("<tree>", "<think>", "<sub>", "<and>", "<run>", "<done>", "</sub>"),
            *(*RESULT_TAGS, *ANSWER_TAGS),
        )

    @classmethod
    def endings(cls) -> tuple[str, ...]:
        return ("<done>", *ANSWER_TAGS)

    def open(self, prompt: Prompt, tree: SearchTree | None = None) -> Continue:
        return Continue(ask=self._ask((), self.frame("task", prompt)))

    def on_call(self, thread: ThreadView) -> Action:
        if thread.last.stop is StopReason.LENGTH:
            return cut_off()
        reading, line = self._tags.read(thread.last), read_line(thread, self._tags)
        if reading.ending == "</sub>":
            return self._finish_subtask(thread, reading, line)
        if reading.ending == "<run>":
            return self._run(thread, reading, line)
        notes = list(line.notes)
        if line.open:
            detail = f"{len(line.open)} subtasks are not finished"
            notes.append(Note(kind=ViolationKind.UNCLOSED_TAG, position=reading.end, detail=detail))
        if thread.path:
            end = malformed(ViolationKind.MALFORMED_RETURN, reading.end, "ends without a conclusion")
        else:
            end = self.end(thread)
        return replace(end, notes=(*notes, *end.notes))

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        reading, line = self._tags.read(thread.last), read_line(thread, self._tags)
        assert line.listed is not None, "only a list of subtasks is joined"
        goals = [goal for goal, _ in _goals(reading, line.listed) if goal]
        spans = [*thread.last.context, *reading.before(line.listed)]
        for goal, result in zip(goals, results, strict=True):
            spans += (*self.forced("<sub>"), *goal, *self.forced("<done>"))
            spans += (*self.result_text(result, self.nothing), *self.forced("</sub>"))
        return Continue(ask=self._ask(thread.path, tuple(spans)))

    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        conclusion = (tree.conclusion,) if tree.conclusion else ()
        end = self.answer.words(tree.solution, conclusion)
        written = [*self._subtasks(tree.children, tree.every, 0), *conclusion, *end, EOS]
        for key in path:
            node, level = [item for item in written if not isinstance(item, str)][key]
            written = [*self._working(node, level), *_conclusion(node, self.result)]
        words = [item for item in written if isinstance(item, str)]
        breaks = [number + 1 for number, word in enumerate(words) if word in ("<run>", "</sub>")]
        start, stop = list(pairwise(dict.fromkeys([0, *breaks, len(words)])))[call_number]
        return self.say(*words[start:stop])

    def needed_length(self, prompt: Prompt) -> int:
        goals = self._params.call_tokens if self._params.budgets.depth else 0
        return length(self.frame("subtask", prompt, "<sub>")) + goals + self._params.call_tokens

    def _ask(self, path: tuple[int, ...], context: tuple[Span, ...], task: tuple[Span, ...] = ()) -> Ask:
        return Ask(
            role="subtask" if path else "task",
            context=context,
            stops=self._tags.stops("</sub>", "<run>"),
            max_tokens=self._params.call_tokens,
            task=task,
        )

    def _finish_subtask(self, thread: ThreadView, reading: Reading, line: "Line") -> Action:
        """Read `... <done> CONCLUSION </sub>`: the working behind the goal leaves the context."""
        close = reading.marks[-1]
        conclusion = () if line.done is None else reading.between(line.done, close)
        if not line.open and thread.path:
            return self._finish_thread(reading, line, conclusion)
        if not line.open:
            end = malformed(ViolationKind.STRAY_TAG, close.start, "no subtask is open")
            return replace(end, notes=(*line.notes, *end.notes))
        notes = line.notes
        if not conclusion:
            detail = "a subtask without a conclusion"
            note = Note(kind=ViolationKind.MALFORMED_RETURN, position=close.start, detail=detail)
            notes = (*notes, note)
        if len(thread.calls) >= self._params.calls:
            return replace(_out_of_calls(), notes=notes)
        context = (*line.open[-1].kept, *reading.from_(line.done or close))
        return Continue(ask=self._ask(thread.path, context), notes=notes)

    def _finish_thread(self, reading: Reading, line: "Line", conclusion: tuple[Span, ...]) -> Return:
        if not conclusion:
            end = malformed(ViolationKind.MALFORMED_RETURN, reading.end, "ends without a conclusion")
            return replace(end, notes=(*line.notes, *end.notes))
        success = reading.text(line.done, reading.marks[-1]).strip() != self.result.nothing
        return Return(outcome=ThreadOutcome.RETURNED, value=conclusion, notes=line.notes, success=success)

    def _run(self, thread: ThreadView, reading: Reading, line: "Line") -> Action:
        """Read `... <sub> GOAL <and> GOAL ... <run>`."""
        if line.listed is None:
            end = malformed(ViolationKind.STRAY_TAG, reading.marks[-1].start, "runs no subtasks")
            return replace(end, notes=(*line.notes, *end.notes))
        goals = _goals(reading, line.listed)
        empty = tuple(
            Note(kind=ViolationKind.EMPTY_CHILD, position=mark.start) for goal, mark in goals if not goal
        )
        notes = (*line.notes, *empty)
        if len(empty) == len(goals):
            end = malformed(ViolationKind.NO_CHILDREN, line.listed.start, "a list without goals")
            return replace(end, notes=(*notes, *end.notes))
        if len(thread.calls) >= self._params.calls:
            return replace(_out_of_calls(), notes=notes)
        around = thread.task
        for subtask in line.open:
            around += (*self.forced("<sub>"), *subtask.goal)
        tasks = [(*around, *self.forced("<sub>"), *goal) for goal, _ in goals if goal]
        path = (*thread.path, 0)
        children = (self._ask(path, self.frame("subtask", thread.prompt, *task), task) for task in tasks)
        return Fork(children=tuple(children), barrier=self.barrier(), notes=notes)

    def _subtasks(
        self, children: tuple[SearchNode, ...], every: bool, level: int
    ) -> Iterator["str | tuple[SearchNode, int]"]:
        """What is written to visit these nodes inside `level` subtasks. Where one is opened as a thread, the
        node and its own level stand in between.
        """
        at_once = self._params.style == "at_once" and level < self._params.budgets.depth
        for wave in waves(children):
            if at_once and len(wave) > 1:
                for number, child in enumerate(wave):
                    yield "<and>" if number else "<sub>"
                    yield child.move
                    yield from needed_words(child, children, self.result)
                    yield (child, level + 1)
                yield "<run>"
                continue
            for child in wave:
                yield "<sub>"
                yield child.move
                yield from needed_words(child, children, self.result)
                yield "<think>"
                yield from self._working(child, level + 1)
                yield from _conclusion(child, self.result)
                if child.solution is not None and not every:
                    return

    def _working(self, node: SearchNode, level: int) -> Iterator["str | tuple[SearchNode, int]"]:
        """What is written on a node, `level` subtasks deep."""
        if level >= self._params.budgets.depth or len(node.children) < 2:
            yield from trace_words(node)
            return
        yield node.trace
        yield from self._subtasks(node.children, False, level)


@dataclass(frozen=True, kw_only=True, slots=True)
class Subtask:
    """A subtask that is being worked on."""

    goal: tuple[Span, ...]
    kept: tuple[Span, ...]
    """The context up to and including the goal, which stays, with the conclusion, when it is finished."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """State of a thread at the end of its last call, before that call's closing tag is applied."""

    open: tuple[Subtask, ...]
    """Open subtasks, outermost first."""
    done: Mark | None
    """Position at which the last call begins the conclusion of the innermost subtask."""
    listed: Mark | None
    """Position at which the list of the last call begins."""
    notes: tuple[Note, ...]
    """Violations of the last call."""


def read_line(thread: ThreadView, tags: Tags) -> Line:
    """Read `<sub> GOAL <think> ... <done> CONCLUSION </sub>`, nested, over all calls of a thread."""
    working: list[Subtask] = []
    line = Line(open=(), done=None, listed=None, notes=())
    ending: str | None = None
    for call in thread.calls:
        if ending == "</sub>" and working:
            working.pop()
        reading = tags.read(call)
        ending = reading.ending
        line = _read_call(reading, working)
    return line


def _read_call(reading: Reading, working: list[Subtask]) -> Line:
    """One call; puts the subtasks that it opens behind those in `working`."""
    notes: list[Note] = []
    done: Mark | None = None
    goal: Mark | None = None
    for mark in reading.marks:
        if mark.tag == "<sub>":
            if goal is not None:
                notes.append(Note(kind=ViolationKind.UNCLOSED_TAG, position=goal.start, detail="<sub>"))
            goal = mark
        elif goal is not None and mark.tag in ("<think>", "<done>", "</sub>"):
            text = reading.between(goal, mark)
            if not text:
                notes.append(Note(kind=ViolationKind.EMPTY_CHILD, position=goal.start))
            kept = (*reading.call.context, *reading.before(mark))
            working.append(Subtask(goal=text, kept=kept))
            goal, done = None, None
        if mark.tag == "<done>":
            done = mark
    if goal is not None and reading.ending != "<run>":
        notes.append(Note(kind=ViolationKind.UNCLOSED_TAG, position=goal.start, detail="<sub>"))
    listed = goal if reading.ending == "<run>" else None
    return Line(open=tuple(working), done=done, listed=listed, notes=tuple(notes))


def _goals(reading: Reading, listed: Mark) -> list[tuple[tuple[Span, ...], Mark]]:
    """The goals of the list that ends a call, each with the tag in front of it."""
    marks = reading.marks[reading.marks.index(listed) :]
    bounds = [mark for mark in marks if mark.tag in ("<sub>", "<and>", "<run>")]
    return [(reading.between(left, right), left) for left, right in pairwise(bounds)]


def _conclusion(node: SearchNode, result: ResultFormat) -> tuple[str, ...]:
    return ("<done>", node.solution or result.nothing, "</sub>")


def _out_of_calls() -> Return:
    return Return(outcome=ThreadOutcome.TRUNCATED, value=None, limit=Limit.CALL)


def waves(children: tuple[SearchNode, ...]) -> list[list[SearchNode]]:
    """The nodes, each as early as those it needs allow."""
    levels: list[int] = []
    for child in children:
        levels.append(1 + max((levels[need] for need in child.needs), default=-1))
    return [
        [child for child, at in zip(children, levels, strict=True) if at == level]
        for level in sorted(set(levels))
    ]
