"""An organizer forks workers while it goes on writing, and joins each worker when it needs the result.

Source: AsyncThink (arXiv 2510.26658). As there:
  - a worker sees only the sub-query that the organizer wrote for it;
  - the organizer keeps writing behind a fork and stops at a join until that worker has returned; the result
  is appended, and the organizer's own text never leaves its context;
  - at most c agents run at once: `budgets.live_calls`. The organizer goes before its workers, so while it
  writes at most c - 1 of them run; further workers wait for a slot, and the wait is on the critical path.
  (While the organizer itself waits at a join, its workers have all c slots.)
Every call is one causal token list, so this equals the published method on an unmodified engine. What
differs: the index is a word of its own behind the tag (`<FORK> 1 : ...` for `<FORK-1>...`), workers end with
`<found>` or `<nothing>` where the paper has RETURN, one join may name several workers (then `wait` says how
many of them it waits for), and workers may fork in turn (`budgets.depth`).

    call 0  organizer  <organizer> 37 10 9 <think>                  <FORK> 1 : 37 9 * 4 </FORK>
    call 1  organizer  ... <FORK> 1 : 37 9 * 4 </FORK>              <FORK> 2 : 37 10 - 4 </FORK>
    call 2  worker     <worker> 37 9 * 4 <think>                    36 ... <found> 9 * 4 <eos>
    call 3  organizer  ... <FORK> 2 : 37 10 - 4 </FORK>             <JOIN> 1 </JOIN>
    call 4  worker     <worker> 37 10 - 4 <think>                   6 ... <nothing> <eos>
    call 5  organizer  ... <JOIN> 1 </JOIN> <found> 9 * 4 <end>     <answer> 9 * 4 <eos>

Call 5 waits for calls 2 and 3, not for call 4. A worker that is not joined when the organizer ends is
cancelled; its tokens count.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from data.episodes.trajectory import Span, StopReason, ViolationKind
from data.tasks.search_tree import SearchNode, SearchTree
from data.text.prompt import Prompt
from rollout.protocols.shared.answers import ANSWER_TAGS, RESULT_TAGS
from rollout.protocols.shared.base import (
    EOS,
    Action,
    Ask,
    Await,
    Continue,
    Fork,
    ForkingParams,
    Note,
    ProtocolCard,
    ProtocolParams,
    Reading,
    Return,
    Role,
    ThinkingProtocol,
    ThreadResult,
    ThreadView,
    cut_off,
)
from rollout.protocols.shared.search_text import needed_words, trace_words
from rollout.protocols.shared.tags import length

_NUMBERS = re.compile(r"\s*[0-9]{1,6}(?:\s+[0-9]{1,6})*\s*")


class AsyncForkParams(ForkingParams):
    """Recipe section of `async_fork`; the size of the pool is `budgets.live_calls`."""

    name: Literal["async_fork"]
    """Name of the protocol."""
    organizer_tokens: int = Field(default=192, ge=1, le=10_000_000)
    """Most sampled tokens of the organizer, over all its calls: they are pieces of one text."""
    worker_tokens: int = Field(default=96, ge=1, le=10_000_000)
    """Most sampled tokens of one worker, over all its calls."""
    forks: int = Field(default=16, ge=1, le=65_536)
    """Most workers that one thread may open."""
    nobody: str = RESULT_TAGS[1]
    """Text read in place of a result at a join of an unknown or already joined worker."""

    @property
    def forks_at(self) -> tuple[str, ...]:
        return ("<FORK>", "<JOIN>")


class AsyncFork(ThinkingProtocol):
    """An organizer that forks workers and joins them while it goes on writing."""

    name: ClassVar[str] = "async_fork"
    params_class: ClassVar[type[ProtocolParams]] = AsyncForkParams
    roles: ClassVar[dict[str, Role]] = {
        "organizer": Role(
            opens="<organizer>",
            instruction="{problem}\n\nWorkers can help you while you go on writing. A worker sees nothing "
            "but what you ask it: open one with <FORK> 1: its task </FORK>, the next with 2, and so on. "
            "When you need a result write <JOIN> 1 </JOIN> with the number of the worker; the result "
            "follows, then <end>. {answer}",
        ),
        "worker": Role(opens="<worker>", instruction="{task}\n\nThink step by step. {result}"),
    }
    role_tags: ClassVar[tuple[str, ...]] = ("<organizer>", "<worker>", "<think>")
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="AsyncThink (arXiv 2510.26658)",
        child_context="its sub-query only",
        join="appended behind the join tag, when the organizer asks for it",
        exact="yes; nesting and joins of several are added",
        trained="all sampled, in every thread",
        barrier="ASYNC by index; FIRST_K or FIRST_SUCCESS of those a join names, by recipe",
    )
    handles_needs: ClassVar[bool] = True

    _params: AsyncForkParams

    @classmethod
    def tags_of(cls, params: ProtocolParams) -> tuple[str, ...]:
        return (
            *("<organizer>", "<worker>", "<think>", "<FORK>", "</FORK>", "<JOIN>", "</JOIN>"),
            *("<end>", *RESULT_TAGS, *ANSWER_TAGS),
        )

    @classmethod
    def words_of(cls, params: ProtocolParams) -> tuple[str, ...]:
        assert isinstance(params, AsyncForkParams)
        return (":", *params.nobody.split())

    @classmethod
    def endings(cls) -> tuple[str, ...]:
        return (*RESULT_TAGS, *ANSWER_TAGS)

    def open(self, prompt: Prompt, tree: SearchTree | None = None) -> Continue:
        context = self.frame("organizer", prompt)
        return Continue(ask=self._ask((), context, self._params.organizer_tokens))

    def on_call(self, thread: ThreadView) -> Action:
        if thread.last.stop is StopReason.LENGTH:
            return cut_off()
        reading = self._tags.read(thread.last)
        if reading.ending == "</FORK>":
            return self._fork(thread, reading)
        if reading.ending == "</JOIN>":
            return self._join(thread, reading)
        end = self.result.end(reading) if thread.path else self.end(thread)
        return replace(end, notes=(*_unclosed(reading, None), *end.notes))

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        found = {result.name: result for result in results}
        spans = [*self.forced("\n")]
        for name in _named(self._tags.read(thread.last)):
            result = found.pop(name, None)
            if result is None:
                spans += self.forced(self._params.nobody)
            else:
                spans += self.result_text(result, self.nothing)
            spans += self.forced("\n")
        return self._go_on(thread, (*spans, *self.forced("<end>\n")), ())

    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        if not path:
            conclusion = (tree.conclusion,) if tree.conclusion else ()
            end = self.answer.words(tree.solution, conclusion)
            calls = [*self._fork_and_join(tree.children, tree.every), (*conclusion, *end, EOS)]
            return self.say(*calls[call_number])
        # A worker's key says how many were forked before it; parts that wait are forked later than others.
        node = tree.children[self._forked(tree.children, tree.every)[path[0]]]
        for key in path[1:]:
            node = node.children[self._forked(node.children, False)[key]]
        if len(path) >= self._params.budgets.depth or len(node.children) < 2:
            trace = tuple(trace_words(node))
            return self.say(*trace, *self.result.words(node.own_solution, trace), EOS)
        first, *others = self._fork_and_join(node.children, False)
        found = self.result.words(node.own_solution)
        return self.say(*[(node.trace, *first), *others, (*found, EOS)][call_number])

    def needed_length(self, prompt: Prompt) -> int:
        organizer, worker = self._params.organizer_tokens, self._params.worker_tokens
        return max(
            length(self.frame("organizer", prompt)) + organizer,
            length(self.frame("worker")) + max(organizer, worker) + worker,
        )

    def _fork_and_join(self, children: tuple[SearchNode, ...], every: bool) -> Iterator[tuple[str, ...]]:
        """Text of a perfect organizer, call by call, before its end."""
        for tag, key in _order(children, every):
            if tag == "<JOIN>":
                yield (tag, str(key + 1), "</JOIN>")
                continue
            words = (children[key].message, *needed_words(children[key], children, self.result))
            yield (tag, f"{key + 1} :", *words, "</FORK>")

    def _forked(self, children: tuple[SearchNode, ...], every: bool) -> list[int]:
        """Indices of the children in the order in which a perfect organizer forks them."""
        return [key for tag, key in _order(children, every) if tag == "<FORK>"]

    def _ask(self, path: tuple[int, ...], context: tuple[Span, ...], tokens: int, name: str = "") -> Ask:
        return Ask(
            role="worker" if path else "organizer",
            context=context,
            stops=self._tags.stops("</FORK>", "</JOIN>"),
            max_tokens=tokens,
            name=name,
        )

    def _next(self, thread: ThreadView, more: tuple[Span, ...] = ()) -> Ask | None:
        """The thread's next call, with `more` appended to its context and output so far; None when no tokens
        are left.
        """
        limit = self._params.worker_tokens if thread.path else self._params.organizer_tokens
        tokens = limit - sum(len(call.output) for call in thread.calls)
        context = (*thread.last.context, *self._tags.read(thread.last).whole(), *more)
        return self._ask(thread.path, context, tokens) if tokens > 0 else None

    def _go_on(
        self, thread: ThreadView, more: tuple[Span, ...], notes: tuple[Note, ...]
    ) -> Continue | Return:
        ask = self._next(thread, more)
        return replace(cut_off(), notes=notes) if ask is None else Continue(ask=ask, notes=notes)

    def _fork(self, thread: ThreadView, reading: Reading) -> Action:
        """Read `... <FORK> i : SUB-QUERY </FORK>`. An invalid fork is noted, opens no worker, and the thread
        continues.
        """
        fork, close = reading.last("<FORK>"), reading.marks[-1]
        notes = _unclosed(reading, "<FORK>")
        if fork is None:
            note = Note(kind=ViolationKind.STRAY_TAG, position=close.start, detail="closes no fork")
            return self._go_on(thread, (), (*notes, note))
        index, query = reading.numbered(fork, close)
        refused = self._refused(thread, index, bool(query))
        if refused is not None:
            note = Note(kind=refused[0], position=fork.start, detail=refused[1])
            return self._go_on(thread, (), (*notes, note))
        assert index is not None
        ask = self._next(thread)
        if ask is None:
            return replace(cut_off(), notes=notes)
        context = self.frame("worker", *query)
        child = self._ask((*thread.path, 0), context, self._params.worker_tokens, name=index)
        return Fork(children=(child,), resume=ask, notes=notes)

    def _refused(
        self, thread: ThreadView, index: str | None, query: bool
    ) -> tuple[ViolationKind, str] | None:
        """Reason why a fork opens no worker, or None."""
        if index is None:
            return ViolationKind.MISSING_INDEX, "a fork begins with its index and a colon"
        if not query:
            return ViolationKind.EMPTY_CHILD, f"fork {index} asks nothing"
        if index in thread.opened:
            return ViolationKind.DUPLICATE_INDEX, f"{index} is in use"
        if thread.num_forks >= self._params.forks:
            return ViolationKind.FORK_NOT_ALLOWED, f"more than {self._params.forks} forks"
        return None

    def _join(self, thread: ThreadView, reading: Reading) -> Action:
        """Read `... <JOIN> i ... </JOIN>`. An unknown or already joined worker is noted, and `nobody` is
        read for it.
        """
        join, close = reading.last("<JOIN>"), reading.marks[-1]
        notes = list(_unclosed(reading, "<JOIN>"))
        if join is None:
            notes.append(Note(kind=ViolationKind.STRAY_TAG, position=close.start, detail="closes no join"))
            return self._go_on(thread, (), tuple(notes))
        names = _named(reading)
        if not names:
            detail = "a join names indices and nothing else"
            notes.append(Note(kind=ViolationKind.MISSING_INDEX, position=join.start, detail=detail))
            return self._go_on(thread, self.forced("\n", self._params.nobody, "\n<end>\n"), tuple(notes))
        waited = list(thread.joined)
        for name in names:
            if name not in thread.opened or name in waited:
                detail = f"{name} was joined before" if name in waited else f"{name} was never forked"
                kind = ViolationKind.JOIN_WITHOUT_FORK
                notes.append(Note(kind=kind, position=join.start, detail=detail))
            waited.append(name)
        return Await(names=names, barrier=self.barrier(), notes=tuple(notes))


def _order(children: tuple[SearchNode, ...], every: bool) -> Iterator[tuple[str, int]]:
    """Forks and joins of a perfect organizer, each with its child: a part is forked as soon as it
    is ready, and joined only when another part depends on it.
    """
    forked: set[int] = set()
    joined: set[int] = set()

    def fork_ready() -> Iterator[tuple[str, int]]:
        for key, child in enumerate(children):
            if key not in forked and joined.issuperset(child.needs):
                forked.add(key)
                yield "<FORK>", key

    yield from fork_ready()
    waited = [need for child in children for need in child.needs]
    for key in dict.fromkeys([*waited, *range(len(children))]):
        joined.add(key)
        yield "<JOIN>", key
        if children[key].solution is not None and not every:
            return
        yield from fork_ready()


def _named(reading: Reading) -> tuple[str, ...]:
    """Worker indices in the join at the end of a call."""
    text = reading.text(reading.last("<JOIN>"), reading.marks[-1])
    return tuple(str(int(word)) for word in text.split()) if _NUMBERS.fullmatch(text) else ()


def _unclosed(reading: Reading, closed: str | None) -> tuple[Note, ...]:
    """Violations for forks and joins that a call opens and does not close; `closed`: the tag whose last
    occurrence is closed.
    """
    last = None if closed is None else reading.last(closed)
    return tuple(
        Note(kind=ViolationKind.UNCLOSED_TAG, position=mark.start, detail=mark.tag)
        for mark in reading.all("<FORK>", "<JOIN>")
        if mark is not last
    )
