"""Several attempts side by side, then a summary of all of them, then the main thread continues.

Source: Parallel-R1 (arXiv 2509.07980). As in its released loop:
  - the main thread stops at `<Parallel>`; every path sees all of it and `<Path>`, nothing else: paths differ
  by their seeds only;
  - all paths are waited for; the parent reads them whole, then `</Parallel> <Summary>` (forced), and a call
  of its own writes the summary; after `</Summary>` the main thread goes on, and may open further blocks.
Every call is one causal token list, and the join is a causal re-prefill: this equals the released rollout and
the paper's "Seen" variant on an unmodified engine. The "Unseen" variant, which masks siblings and shares
positions in training only, is not built. What differs: forced tags carry no loss; a path that fails is read
as one line; and, with `width: model`, the model writes how many paths, `<Parallel> 3 <Path>`.

A path succeeds when its own last verdict is `<found> RESULT`; the words are this project's.

    call 0  main     37 10 9 4 2                  <Parallel>
    call 1  path     37 10 9 4 2 <Parallel> <Path>             <try> 9 * 4 10 2 ... <found> 9 * 4 ... </Path>
    call 2  path     37 10 9 4 2 <Parallel> <Path>             <try> 10 - 4 9 2 ... <nothing> </Path>
    call 3  summary  37 10 9 4 2 <Parallel> <Path> ... </Path> <Path> ... </Path> </Parallel> <Summary>
                                                               <found> 9 * 4 ... </Summary>
    call 4  main     37 10 9 4 2 ... </Summary>                <answer> 9 * 4 10 / ... <eos>
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from data.episodes.trajectory import Span, StopReason, ThreadOutcome, ViolationKind
from data.tasks.search_tree import SearchTree, rotated
from data.text.prompt import Prompt
from rollout.protocols.shared.answers import ANSWER_TAGS, RESULT_TAGS
from rollout.protocols.shared.base import (
    EOS,
    Action,
    Ask,
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
from rollout.protocols.shared.flat_text import SaidCall, TextCursor
from rollout.protocols.shared.markup import Rule, parse
from rollout.protocols.shared.search_text import solo_words
from rollout.protocols.shared.tags import length

_NUMBER = re.compile(r"\s*([0-9]{1,6})\s*")
_FEWEST = 2
"""Fewest paths of a block in the published format."""


class ParallelPathsParams(ForkingParams):
    """Recipe section of `parallel_paths`."""

    name: Literal["parallel_paths"]
    """Name of the protocol."""
    width: Literal["fixed", "model"] = "fixed"
    """Width of blocks: `fixed` gives every block `paths` paths, as published; with `model` the model writes
    the number, `<Parallel> n <Path>`.
    """
    paths: int = Field(default=2, ge=_FEWEST, le=65_536)
    """Paths of a block; those beyond `budgets.width` do not run. With `width: model`: the most that
    demonstrations ask for, and the number when the model's cannot be read.
    """
    blocks: int = Field(default=4, ge=1, le=65_536)
    """Most blocks that an episode may open."""
    main_tokens: int = Field(default=48, ge=1, le=10_000_000)
    """Most sampled tokens of one call of the main thread."""
    path_tokens: int = Field(default=400, ge=1, le=10_000_000)
    """Most sampled tokens of a path: a whole attempt."""
    summary_tokens: int = Field(default=64, ge=1, le=10_000_000)
    """Most sampled tokens of a summary."""


class ParallelPaths(ThinkingProtocol):
    """Blocks of parallel paths, each followed by a summary."""

    name: ClassVar[str] = "parallel_paths"
    params_class: ClassVar[type[ProtocolParams]] = ParallelPathsParams
    roles: ClassVar[dict[str, Role]] = {
        "main": Role(
            begins="",
            instruction="{problem}\n\nThink step by step. Where it helps to try more than one way, write "
            "<Parallel>: then several paths follow, each between <Path> and </Path>, and a summary of them "
            "between <Summary> and </Summary>; after that go on. {answer}",
        ),
        # A path and a summary continue the text of the main thread.
        "path": Role(begins=""),
        "summary": Role(begins=""),
    }
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="Parallel-R1 (arXiv 2509.07980)",
        child_context="everything so far; paths differ by seed only",
        join="all paths whole, then a summary call",
        exact="yes: the released loop and the Seen variant; Unseen (sibling masks in training) is not built",
        trained="all sampled, in every thread",
        barrier="ALL; FIRST_K or FIRST_SUCCESS by recipe",
    )
    handles_needs: ClassVar[bool] = True

    _params: ParallelPathsParams

    @classmethod
    def tags_of(cls, params: ProtocolParams) -> tuple[str, ...]:
        return (
            *("<Parallel>", "</Parallel>", "<Path>", "</Path>", "<Summary>", "</Summary>"),
            *("<try>", *RESULT_TAGS, *ANSWER_TAGS),
        )

    @classmethod
    def endings(cls) -> tuple[str, ...]:
        return (*RESULT_TAGS, *ANSWER_TAGS)

    def split_text(self, text: TextCursor) -> Sequence[SaidCall]:
        return _split(text, self._params)

    def open(self, prompt: Prompt, tree: SearchTree | None = None) -> Continue:
        return Continue(ask=self._main(self.frame("main", prompt)))

    def on_call(self, thread: ThreadView) -> Action:
        if thread.last.stop is StopReason.LENGTH:
            return cut_off()
        reading = self._tags.read(thread.last)
        if thread.path:
            return self._end_path(reading)
        if thread.last.role == "summary":
            return self._end_summary(thread, reading)
        if reading.ending == self._fork_tag:
            return self._fork(thread, reading)
        notes = parse(reading, _rules(may_fork=True)).notes
        end = self.end(thread)
        return replace(end, notes=(*notes, *end.notes))

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        reading = self._tags.read(thread.last)
        context: list[Span] = [*thread.last.context, *reading.whole()]
        for number, result in enumerate(results):
            if number or self._params.width == "fixed":
                context += self.forced("<Path>")
            context += self.result_text(result, self.nothing)
            if result.value is None:
                context += self.forced("</Path>")
        context += self.forced("</Parallel>\n<Summary>")
        # A cancelled path is left out; a failed one left its path open.
        closed = sum(
            result.outcome in (ThreadOutcome.RETURNED, ThreadOutcome.CANCELLED) for result in results
        )
        return Continue(
            ask=Ask(
                role="summary",
                context=tuple(context),
                stops=self._tags.stops("</Summary>"),
                max_tokens=self._params.summary_tokens,
            ),
            notes=_too_few(reading, closed),
        )

    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        if path:
            return self.say("\n", *solo_words(rotated(tree, path[0]), self.result), "\n", "</Path>")
        if not tree.children or call_number == 2:
            gap = "\n\n" if tree.children else ""
            return self.say(gap, *self.answer.words(tree.solution), EOS)
        if call_number == 1:
            return self.say("\n", *self.result.words(tree.solution), "\n", "</Summary>")
        if self._params.width == "fixed":
            return self.say("<Parallel>")
        paths = max(_FEWEST, min(len(tree.children), self._params.paths, self._params.budgets.width))
        return self.say("<Parallel>", str(paths), "<Path>")

    def needed_length(self, prompt: Prompt) -> int:
        main = length(self.frame("main", prompt)) + self._params.main_tokens
        return main + len(self.say("<Path>")) + self._params.path_tokens

    @property
    def _fork_tag(self) -> str:
        return "<Parallel>" if self._params.width == "fixed" else "<Path>"

    def _main(self, context: tuple[Span, ...]) -> Ask:
        return Ask(
            role="main",
            context=context,
            stops=self._tags.stops(self._fork_tag),
            max_tokens=self._params.main_tokens,
        )

    def _fork(self, thread: ThreadView, reading: Reading) -> Action:
        """Read `... <Parallel>`, or `... <Parallel> n <Path>` when the model chooses the width."""
        fork = reading.marks[-1]
        markup = parse(reading, _rules(may_fork=True), left=("Parallel", "Path"))
        opened = next(element for element in markup.walk() if element.open is fork)
        notes = list(markup.notes)
        if opened.misplaced:
            return Return(outcome=ThreadOutcome.MALFORMED, value=None, notes=tuple(notes))
        allowed = self._params.budgets.width
        paths = min(self._params.paths, allowed)
        if self._params.width == "model":
            block = markup.all("Parallel")[-1].open
            number = _NUMBER.fullmatch(reading.text(block, fork))
            if number is None:
                notes.append(_note(ViolationKind.MISSING_INDEX, fork.start, "no number of paths"))
            else:
                # One more than may run is enough for a note that these are too many.
                paths = min(int(number[1]), allowed + 1)
        refused = None
        if thread.num_forks >= self._params.blocks:
            detail = f"more than {self._params.blocks} blocks"
            refused = _note(ViolationKind.FORK_NOT_ALLOWED, fork.start, detail)
        elif not paths:
            refused = _note(ViolationKind.NO_CHILDREN, fork.start, "a block of no paths")
        if refused is not None:
            return Return(outcome=ThreadOutcome.MALFORMED, value=None, notes=(*notes, refused))
        forced = self.forced("<Path>") if self._params.width == "fixed" else ()
        child = Ask(
            role="path",
            context=(*thread.last.context, *reading.whole(), *forced),
            stops=self._tags.stops("</Path>"),
            max_tokens=self._params.path_tokens,
        )
        return Fork(children=(child,) * paths, barrier=self.barrier(), notes=tuple(notes))

    def _end_path(self, reading: Reading) -> Action:
        notes = _inner_notes(reading, "Path")
        if reading.ending != "</Path>":
            return Return(outcome=ThreadOutcome.MALFORMED, value=None, notes=notes)
        return Return(
            outcome=ThreadOutcome.RETURNED,
            value=reading.whole(),
            notes=notes,
            success=self.result.says_found(reading),
        )

    def _end_summary(self, thread: ThreadView, reading: Reading) -> Action:
        notes = _inner_notes(reading, "Summary")
        if reading.ending != "</Summary>":
            return Return(outcome=ThreadOutcome.MALFORMED, value=None, notes=notes)
        return Continue(ask=self._main((*thread.last.context, *reading.whole())), notes=notes)


def _rules(*, may_fork: bool) -> tuple[Rule, ...]:
    """Rules of the format. The engine opens paths and summaries: one that the model opens is misplaced."""
    return (
        Rule(
            name="Parallel",
            within=("",) if may_fork else (),
            misplaced=ViolationKind.FORK_NOT_ALLOWED,
            unopened=ViolationKind.JOIN_WITHOUT_FORK,
        ),
        Rule(name="Path", within=("Parallel",)),
        Rule(name="Summary", within=()),
    )


def _inner_notes(reading: Reading, name: str) -> tuple[Note, ...]:
    """Violations inside a path or a summary, which should end at its own closing tag."""
    closed = reading.ending == f"</{name}>"
    inner = replace(reading, marks=reading.marks[:-1]) if closed else reading
    left = (name,) if closed else ()
    return parse(inner, _rules(may_fork=False), opened=(name,), left=left).notes


def _too_few(reading: Reading, closed: int) -> tuple[Note, ...]:
    if closed >= _FEWEST:
        return ()
    detail = f"{closed} closed paths, {_FEWEST} needed"
    return (_note(ViolationKind.TOO_FEW_CHILDREN, reading.marks[-1].start, detail),)


def _note(kind: ViolationKind, position: int, detail: str) -> Note:
    return Note(kind=kind, position=position, detail=detail)


def _split(cursor: TextCursor, params: ParallelPathsParams) -> list[SaidCall]:
    """The calls of a published text."""
    fixed = params.width == "fixed"
    calls: list[SaidCall] = []
    children = 0
    while True:
        said, fork = cursor.until("<Parallel>" if fixed else "<Path>")
        calls.append(SaidCall(path=(), says=said if fork else cursor.ended(said)))
        if fork is None:
            return calls
        first = children
        while cursor.next_is("<Path>") or (not fixed and children == first):
            if fixed or children > first:
                cursor.expect("<Path>")
            said, closed = cursor.until("</Path>")
            if closed is None:
                raise cursor.error("a path is not closed by </Path>")
            calls.append(SaidCall(path=(children,), says=said))
            children += 1
        if fixed and children - first != params.paths:
            raise cursor.error(f"{children - first} paths before this, where `paths` is {params.paths}")
        cursor.expect("</Parallel>")
        cursor.expect("<Summary>")
        said, closed = cursor.until("</Summary>")
        if closed is None:
            raise cursor.error("a summary is not closed by </Summary>")
        calls.append(SaidCall(path=(), says=said))
