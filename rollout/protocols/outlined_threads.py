"""The main thread writes numbered outlines, one thread works out each of them, and the main thread reads all.

Source: ThreadWeaver (arXiv 2512.07843) with `dialect: threadweaver`, the default, as in its released loop:
  - the main thread stops at `</Outlines>`; a thread sees all of it, every outline included, and the forced
  header `<Thread> i :`; it ends at `</Thread>`;
  - after the join the parent reads its own text, the outlines and all threads in the outlines' order; the
  model itself writes `</Parallel>` and goes on; outlines whose number was used before are left out;
  - a block inside a thread is ordinary text (noted as FORK_NOT_ALLOWED).
Every call is one causal token list, so this equals the published method on an unmodified engine. What
differs: a thread that fails is read as one line (published: the rollout ends, here `on_failure: fail`), and a
block without outlines ends the thread.

`multiverse`, `npr` and `parason` have the tags and rules of `rollout.protocols.shared.dialects` and a causal
re-prefill at the join. THAT IS NOT WHAT MULTIVERSE AND NPR PUBLISHED: their engines merge the threads' caches
blind to each other. Their numbers do not carry over, and their checkpoints were not trained for it. Blocks
nest where the dialect allows it and `budgets.depth` too. Parason's trials end when one of them succeeds.

A thread succeeds when its own last verdict is `<found> RESULT`; a thread that ends without one has returned,
but does not end a wait for a success. The words are this project's.

    call 0  main    37 10 9 4 2 <think>     <Parallel> <Outlines> <Outline> 1 : 9 * 4 10 2 </Outline>
                                            <Outline> 2 : 10 - 4 9 2 </Outline> </Outlines>
    call 1  thread  37 ... </Outlines> <Thread> 1 :     36 ... <found> 9 * 4 10 / ... </Thread>
    call 2  thread  37 ... </Outlines> <Thread> 2 :     6 ... <nothing> </Thread>
    call 3  main    37 ... </Outlines> <Thread> 1 : ... </Thread> <Thread> 2 : ... </Thread>
                                            </Parallel> </think> <answer> 9 * 4 10 / ... <eos>
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from data.episodes.trajectory import Span, StopReason, ThreadOutcome, ViolationKind
from data.tasks.search_tree import SearchTree
from data.text.prompt import Prompt
from rollout.protocols.shared.answers import ANSWER_TAGS, RESULT_TAGS
from rollout.protocols.shared.base import (
    Action,
    Ask,
    Barrier,
    BarrierKind,
    Continue,
    Decision,
    Encoder,
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
from rollout.protocols.shared.dialects import DIALECTS, Dialect
from rollout.protocols.shared.flat_text import SaidCall, TextCursor
from rollout.protocols.shared.markup import Element, Markup, parse, text_behind
from rollout.protocols.shared.outlined_demo import Imitator
from rollout.protocols.shared.outlined_text import OutlinedText
from rollout.protocols.shared.tag_text import closing, opening, spell_index
from rollout.protocols.shared.tags import length

_ENDINGS = (*RESULT_TAGS, *ANSWER_TAGS)


class OutlinedThreadsParams(ForkingParams):
    """Recipe section of `outlined_threads`; how deep blocks nest is `budgets.depth` and the dialect."""

    name: Literal["outlined_threads"]
    """Name of the protocol."""
    dialect: Literal["threadweaver", "multiverse", "npr", "parason"] = "threadweaver"
    """Published format with its tags and rules. Only `threadweaver` is exactly the published method."""
    blocks: int = Field(default=8, ge=1, le=65_536)
    """Most blocks that one thread may open, one after the other."""
    trials: Literal["success", "all"] = "success"
    """Wait for trials under `dialect: parason`: until `wait_for` of them succeeded (the others are
    cancelled), or for all.
    """
    main_tokens: int = Field(default=128, ge=1, le=10_000_000)
    """Most sampled tokens of one call of the main thread."""
    thread_tokens: int = Field(default=96, ge=1, le=10_000_000)
    """Most sampled tokens of one call of a thread."""

    @model_validator(mode="after")
    def _branches_say_what_is_waited_for(self) -> Self:
        if self.dialect == "parason" and self.wait != "all":
            raise ValueError(
                f"wait ({self.wait}) must be all with dialect parason: subtasks are all needed, and `trials` "
                "sets what trials wait for"
            )
        if self.dialect != "parason" and self.trials != "success":
            raise ValueError(f"trials is for dialect parason; {self.dialect} has none, use `wait`")
        return self


class OutlinedThreads(ThinkingProtocol):
    """Outlines, a thread for each of them, and a parent that reads all threads."""

    name: ClassVar[str] = "outlined_threads"
    params_class: ClassVar[type[ProtocolParams]] = OutlinedThreadsParams
    roles: ClassVar[dict[str, Role]] = {"main": Role(begins=""), "thread": Role(begins="")}
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source=", ".join(dialect.source for dialect in DIALECTS.values()),
        child_context="everything so far, all outlines, its number",
        join="all threads whole, in the outlines' order",
        exact="; ".join(f"{dialect.name}: {dialect.exactness}" for dialect in DIALECTS.values()),
        trained="all sampled, in every thread",
        barrier="ALL; FIRST_K or FIRST_SUCCESS by recipe; parason: all subtasks, FIRST_SUCCESS of the trials",
    )
    handles_needs: ClassVar[bool] = True

    _params: OutlinedThreadsParams

    def __init__(self, params: ProtocolParams, encoder: Encoder) -> None:
        """As for `ThinkingProtocol`, with the dialect of the parameters."""
        super().__init__(params, encoder)
        budgets = self._params.budgets
        self.dialect: Dialect = DIALECTS[self._params.dialect]
        self._outlined = closing(self.dialect.outlines)
        self._closed = closing(self.dialect.thread)
        self._imitator = Imitator(
            dialect=self.dialect,
            width=budgets.width,
            depth=budgets.depth,
            answer=self.answer,
            result=self.result,
        )

    @classmethod
    def tags_of(cls, params: ProtocolParams) -> tuple[str, ...]:
        assert isinstance(params, OutlinedThreadsParams)
        names = DIALECTS[params.dialect].elements
        return (*(tag for name in names for tag in (opening(name), closing(name))), *_ENDINGS)

    @classmethod
    def words_of(cls, params: ProtocolParams) -> tuple[str, ...]:
        assert isinstance(params, OutlinedThreadsParams)
        return (":",) if DIALECTS[params.dialect].depth == 1 else (":", ".")

    @classmethod
    def endings(cls) -> tuple[str, ...]:
        return _ENDINGS

    def split_text(self, text: TextCursor) -> Sequence[SaidCall]:
        depth = min(self.dialect.depth, self._params.budgets.depth)
        return OutlinedText(text, self.dialect, depth).calls()

    def open(self, prompt: Prompt, tree: SearchTree | None = None) -> Continue:
        return Continue(ask=self._ask((), self.frame("main", prompt, begin=self._think)))

    def on_call(self, thread: ThreadView) -> Action:
        if thread.last.stop is StopReason.LENGTH:
            return cut_off()
        reading = self._tags.read(thread.last)
        if reading.ending == self._outlined and self._may_fork(thread.path):
            return self._fork(thread, reading)
        if thread.path:
            return self._end_thread(thread, reading)
        notes = self._parse(thread, reading, left=()).notes
        if self.dialect.think is not None and self.answer.tags:
            notes += text_behind(reading, self.dialect.think, ANSWER_TAGS)
        end = self.end(thread)
        return replace(end, notes=(*notes, *end.notes))

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        dialect = self.dialect
        context: list[Span] = [*thread.last.context, *self._tags.read(thread.last).whole()]
        for number, result in enumerate(results):
            context += self.forced(dialect.between if number else dialect.before, self.header(result.name))
            context += self.result_text(result, self.nothing)
            if result.value is None:
                context += self.forced(self._closed)
        conclusion = "" if dialect.conclusion is None else opening(dialect.conclusion)
        context += self.forced(dialect.behind + conclusion + dialect.after)
        return Continue(ask=self._ask(thread.path, tuple(context)))

    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        return self.say(*self._imitator.words(tree, path, call_number))

    def needed_length(self, prompt: Prompt) -> int:
        opened = length(self.frame("main", prompt, begin=self._think))
        header = len(self.say(self.dialect.before, self.header("1")))
        return opened + self._params.main_tokens + header + self._params.thread_tokens

    def header(self, name: str) -> str:
        """Forced header that opens a thread, behind everything so far."""
        return f"{opening(self.dialect.thread)}{self.dialect.inside}{name}:"

    @property
    def _think(self) -> str:
        """Forced tag in front of everything that the main thread writes."""
        return "" if self.dialect.think is None else opening(self.dialect.think)

    def instruction(self, role: str) -> str:
        dialect = self.dialect
        item, thread = dialect.items[0], opening(dialect.thread)
        around = "" if dialect.block is None else f", inside {opening(dialect.block)}"
        return (
            "{problem}\n\nThink step by step. Where parts can be worked on apart, list them"
            f"{around}: {opening(dialect.outlines)}, then one line {opening(item)}1: ...{closing(item)} "
            f"for each, then {self._outlined}. Each is then worked out in {thread}1: ...{self._closed}, "
            "and you go on with all of them. {answer}"
        )

    def _may_fork(self, path: tuple[int, ...]) -> bool:
        """Whether the dialect lets this thread open blocks; `budgets.depth` may refuse their threads."""
        return len(path) < self.dialect.depth

    def _ask(self, path: tuple[int, ...], context: tuple[Span, ...], name: str = "") -> Ask:
        tags = (self._outlined,) if self._may_fork(path) else ()
        return Ask(
            role="thread" if path else "main",
            context=context,
            stops=self._tags.stops(*tags, *((self._closed,) if path else ())),
            max_tokens=self._params.thread_tokens if path else self._params.main_tokens,
            name=name,
        )

    def _parse(self, thread: ThreadView, reading: Reading, left: Sequence[str]) -> Markup:
        root = not thread.path
        again = thread.num_forks > 0
        return parse(
            reading,
            self.dialect.rules(root=root, may_fork=self._may_fork(thread.path)),
            opened=self.dialect.going_on(root=root) if again else self.dialect.base(root=root),
            left=left,
        )

    def _fork(self, thread: ThreadView, reading: Reading) -> Action:
        """Read `... <Outlines> <Outline> 1 : ... </Outline> ... </Outlines>`."""
        end = reading.marks[-1]
        markup = self._parse(thread, reading, left=self.dialect.asking(root=not thread.path))
        outlines = markup.ending_at(end)
        if outlines is None or outlines.misplaced:
            return Return(outcome=ThreadOutcome.MALFORMED, value=None, notes=markup.notes)
        items = _distinct(outlines.children)
        kind, detail = None, ""
        if thread.num_forks >= self._params.blocks:
            kind, detail = ViolationKind.FORK_NOT_ALLOWED, f"more than {self._params.blocks} blocks"
        elif len(items) > self.dialect.most:
            kind, detail = (
                ViolationKind.TOO_MANY_CHILDREN,
                f"{len(items)} outlines, {self.dialect.most} allowed",
            )
        elif not items and outlines.children:
            kind, detail = ViolationKind.NO_CHILDREN, "no outline has a number"
        if kind is not None or not items:
            refused = () if kind is None else (Note(kind=kind, position=end.start, detail=detail),)
            return Return(outcome=ThreadOutcome.MALFORMED, value=None, notes=(*markup.notes, *refused))
        context = (*thread.last.context, *reading.whole())
        path = (*thread.path, 0)
        children = (
            self._ask(path, (*context, *self.forced(self.dialect.before, self.header(name))), name)
            for name in items
        )
        return Fork(
            children=tuple(children),
            barrier=self._branches(tuple(items.values())),
            notes=markup.notes,
        )

    def _branches(self, kinds: Sequence[str]) -> Barrier:
        """Barrier of a block. `kinds`: each thread's kind of outline."""
        trials = frozenset(index for index, kind in enumerate(kinds) if kind == self.dialect.trial)
        if not trials or self._params.trials == "all":
            return self.barrier()
        enough = self._params.wait_for
        if len(trials) == len(kinds):
            return Barrier(kind=BarrierKind.FIRST_SUCCESS, k=enough)
        return Barrier(kind=BarrierKind.PREDICATE, decide=partial(_trials_found, trials, enough))

    def _end_thread(self, thread: ThreadView, reading: Reading) -> Action:
        """Read `... </Thread>`. The thread's value is all its text since its header."""
        base = self.dialect.base(root=False)
        if reading.ending != self._closed:
            notes = self._parse(thread, reading, left=()).notes
            return Return(outcome=ThreadOutcome.MALFORMED, value=None, notes=notes)
        inner = replace(reading, marks=reading.marks[:-1])
        given = thread.last.context[len(thread.calls[0].context) :]
        return Return(
            outcome=ThreadOutcome.RETURNED,
            value=(*given, *reading.whole()),
            notes=self._parse(thread, inner, left=base).notes,
            success=self.result.says_found(reading),
        )


def _distinct(outlines: Sequence[Element]) -> dict[str, str]:
    """Kind of each outline by number; a repeated number counts once."""
    items: dict[str, str] = {}
    for outline in outlines:
        if outline.index is not None:
            items.setdefault(spell_index(outline.index), outline.name)
    return items


def _trials_found(trials: frozenset[int], enough: int, results: Sequence[ThreadResult]) -> Decision:
    """Wait for all subtasks, and for trials until enough of them succeeded."""
    if sum(results[index].success for index in trials) < enough:
        return Decision()
    return Decision(cancel=tuple(results[index].key for index in trials if results[index].outcome is None))
