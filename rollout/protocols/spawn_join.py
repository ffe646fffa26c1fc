"""A parent spawns children with messages it writes, waits for all, and continues with their results.

Source: Learning Adaptive Parallel Reasoning (APR, arXiv 2504.15466), section 3. As there:
  - a child sees only the message its parent wrote for it: not the problem, not the parent's thoughts;
  - the resumed parent sees its own text up to the spawn (the spawn text itself leaves) and what the
  children returned:
    the solution of one that succeeded, one short line for one that did not;
  - a forced budget in front of the prompt can condition the search: on spawns (only threads that may spawn
  see theirs) or on tokens (passed on to children).
Every call is one causal token list, so this equals the published method on an unmodified engine. What
differs: results are copied by token reference, never re-tokenised; the words and tags are this project's own,
unless `dialect: apr` takes the published text (rollout.protocols.shared.apr_text); and threads may spawn in
turn (`budgets.depth`), where the paper has one level. A nested thread's solution begins at its own message;
its parent puts the parent's own steps in front. With `dialect: apr` a call ends at `<End Calling Sub
Searches>` (published: at the end of the sequence), and a parent that writes results itself ends malformed.

    call 0  parent  <parent> 37 10 9 4 2 <think>            <spawn> 37 9 * 4 10 2 <and> 37 10 - 4 9 2 <join>
    call 1  child   <child> 37 9 * 4 10 2 <think>           36 ... <found> 9 * 4 10 / ... <eos>
    call 2  child   <child> 37 10 - 4 9 2 <think>           6 ... <nothing> <eos>
    call 3  parent  <parent> 37 10 9 4 2 <think> <results> <found> 9 * ... <nothing> <end>
                                                            <answer> 9 * 4 10 / ... <eos>
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from data.episodes.trajectory import Span, StopReason, ViolationKind
from data.tasks.search_tree import SearchNode, SearchTree
from data.text.prompt import Prompt
from rollout.protocols.shared import apr_text
from rollout.protocols.shared.answers import ANSWER_TAGS, RESULT_TAGS
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
    Role,
    Stops,
    ThinkingProtocol,
    ThreadResult,
    ThreadView,
    cut_off,
    malformed,
)
from rollout.protocols.shared.search_text import trace_words
from rollout.protocols.shared.tags import length


class SpawnJoinParams(ForkingParams):
    """Recipe section of `spawn_join`; how many children is `budgets.width`, how deep `budgets.depth`."""

    name: Literal["spawn_join"]
    """Name of the protocol."""
    dialect: Literal["tags", "apr"] = "tags"
    """Text of spawns and joins: `tags`, this project's own, or `apr`, the published lines, for searches that
    name their nodes (task countdown with `text: apr`). Answers and results then end as published too.
    """
    parent_tokens: int = Field(default=96, ge=1, le=10_000_000)
    """Most sampled tokens of one call of the root."""
    child_tokens: int = Field(default=72, ge=1, le=10_000_000)
    """Most sampled tokens of one call of a child."""
    rounds: int = Field(default=1, ge=1, le=65_536)
    """Most spawns of one thread."""
    condition: Literal["none", "spawns", "tokens"] = "none"
    """Put `<budget> n` (dialect apr: `Sub Call Budget: n`, `Token Budget: n`) in front of the prompt. In
    demonstrations n is what the search took. A child gets what is left, divided among its siblings (`spawns`;
    only where it may spawn), or the same n (`tokens`).
    """
    budget: int = Field(default=6, ge=1, le=65_536)
    """Value of n in rollouts when `condition` is on."""
    budget_unit: int = Field(default=32, ge=1, le=65_536)
    """With `condition: tokens`, n counts units of this many sampled tokens, rounded up."""

    @property
    def forks_at(self) -> tuple[str, ...] | None:
        return ("<spawn>", "<join>") if self.dialect == "tags" else None

    @model_validator(mode="after")
    def _ends_as_published(self) -> Self:
        if self.dialect == "apr":
            if self.budgets.depth > 1:
                raise ValueError("budgets.depth must be 0 or 1 with dialect apr: sub searches do not nest")
            for name, section in (("answer", self.answer), ("result", self.result)):
                if section.kind != "tags" or section.scope != "whole":
                    raise ValueError(f"{name}.kind and {name}.scope are not for dialect apr: its text says")
        return self


_LINES = {"parent": Role(begins="\n"), "child": Role(begins="\n")}
"""Roles in the published text: what a search begins with, and a line break."""


class SpawnJoin(ThinkingProtocol):
    """A parent that spawns children with its own messages and joins them all."""

    name: ClassVar[str] = "spawn_join"
    params_class: ClassVar[type[ProtocolParams]] = SpawnJoinParams
    roles: ClassVar[dict[str, Role]] = {
        "parent": Role(
            opens="<parent>",
            instruction="{problem}\n\n{task}\n\nYou may hand parts of the work to helpers that see nothing "
            "but your message: write <spawn>, the messages with <and> between them (at most {width}), then "
            "<join>. Their results follow between <results> and <end>; then go on. {answer}",
        ),
        "child": Role(opens="<child>", instruction="{task}\n\nThink step by step. {result}"),
    }
    role_tags: ClassVar[tuple[str, ...]] = ("<parent>", "<child>", "<think>")
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="APR (arXiv 2504.15466)",
        child_context="its message only",
        join="the spawn text is removed; each child leaves its solution or one line",
        exact="yes; nesting is added, and with `dialect: apr` the text is the published one",
        trained="all sampled, in every thread",
        barrier="ALL; FIRST_K or FIRST_SUCCESS by recipe",
    )

    _params: SpawnJoinParams

    @classmethod
    def tags_of(cls, params: ProtocolParams) -> tuple[str, ...]:
        assert isinstance(params, SpawnJoinParams)
        if params.dialect == "apr":
            return apr_text.TAGS
        return (
            *(
                "<parent>",
                "<child>",
                "<think>",
                "<budget>",
                "<spawn>",
                "<and>",
                "<join>",
                "<results>",
                "<end>",
            ),
            *(*RESULT_TAGS, *ANSWER_TAGS),
        )

    @classmethod
    def endings(cls) -> tuple[str, ...]:
        return (*RESULT_TAGS, *ANSWER_TAGS)

    def layout(self) -> dict[str, Role]:
        return _LINES if self._as_published else self.roles

    def instruction(self, role: str) -> str:
        return "{task}{problem}" if self._as_published else super().instruction(role)

    def open(self, prompt: Prompt, tree: SearchTree | None = None) -> Continue:
        budget = self._params.budget if tree is None else self._used(tree)
        context = self.frame("parent", self._prefix(budget, ()), prompt)
        return Continue(ask=self._ask((), context, budget))

    def on_call(self, thread: ThreadView) -> Action:
        reading = self._tags.read(thread.last)
        if thread.last.stop is StopReason.LENGTH:
            return cut_off()
        if self._as_published:
            return self._on_search(thread, reading)
        if reading.ending == "<join>":
            return self._spawn(thread, reading)
        if thread.path:
            return self.result.end(reading)
        return self.end(thread)

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        if self._as_published:
            return Continue(ask=self._ask(thread.path, self._joined_searches(thread, results), thread.memo))
        reading = self._tags.read(thread.last)
        spawn = reading.last("<spawn>")
        assert spawn is not None, "only a spawn is joined"
        spans: list[Span] = [*thread.last.context, *reading.before(spawn), *self.forced("\n<results>\n")]
        for result in results:
            spans.extend((*self.result_text(result, self.nothing), *self.forced("\n")))
        spans.extend(self.forced("<end>\n"))
        return Continue(ask=self._ask(thread.path, tuple(spans), thread.memo))

    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        if not path:
            return self._teach_root(tree, call_number)
        node = tree.children[path[0]]
        for key in path[1:]:
            node = node.children[key]
        if self._as_published:
            return self.say(apr_text.search_in(node), EOS)
        nests = self._nests(node, len(path))
        if nests and call_number == 0:
            return self.say(node.trace, *self._spawn_words(node.children))
        trace = () if nests else tuple(trace_words(node))
        return self.say(*trace, *self.result.words(node.own_solution, trace), EOS)

    def needed_length(self, prompt: Prompt) -> int:
        budget = self._budget_text(self._params.budget)
        parent = length(self.frame("parent", budget, prompt)) + self._params.parent_tokens
        child = length(self.frame("child")) + self._params.parent_tokens + self._params.child_tokens
        return max(parent, child)

    def _ask(self, path: tuple[int, ...], context: tuple[Span, ...], budget: int) -> Ask:
        return Ask(
            role="child" if path else "parent",
            context=context,
            stops=self._stops(path),
            max_tokens=self._params.child_tokens if path else self._params.parent_tokens,
            memo=budget,
        )

    def _prefix(self, budget: int, path: tuple[int, ...]) -> str:
        """Forced `<budget> n`, for threads that the budget applies to."""
        may_spawn = len(path) < self._params.budgets.depth
        if self._params.condition == "none" or (self._params.condition == "spawns" and not may_spawn):
            return ""
        return self._budget_text(max(1, budget))

    def _budget_text(self, budget: int) -> str:
        if not self._as_published:
            return f"<budget> {budget}"
        return f"{'Token' if self._params.condition == 'tokens' else 'Sub Call'} Budget: {budget} "

    @property
    def _as_published(self) -> bool:
        return self._params.dialect == "apr"

    def _stops(self, path: tuple[int, ...]) -> Stops:
        if not self._as_published:
            return self._tags.stops("<join>")
        return self._tags.stops(*(() if path else (apr_text.CALLED, apr_text.RESULTS)))

    def _on_search(self, thread: ThreadView, reading: Reading) -> Action:
        """The action after a call in the published text."""
        if reading.ending == apr_text.CALLED and not thread.path:
            return self._call_searches(thread, reading)
        return apr_text.ended(reading, root=not thread.path)

    def _call_searches(self, thread: ThreadView, reading: Reading) -> Action:
        call, end = reading.last(apr_text.CALLING), reading.marks[-1]
        if call is None:
            return malformed(ViolationKind.JOIN_WITHOUT_FORK, end.start, "a list that was not begun")
        if thread.num_forks >= self._params.rounds:
            detail = f"more than {self._params.rounds} calls of sub searches"
            return malformed(ViolationKind.FORK_NOT_ALLOWED, call.start, detail)
        earlier = (self._tags.read(before) for before in thread.calls[:-1])
        texts = (thread.prompt.text, *(own.text(None, own.last(apr_text.CALLING)) for own in earlier))
        openings, notes = apr_text.openings(reading, call, texts)
        children: list[Ask] = []
        for place, opening in openings.items():
            context = self.frame("child", self._prefix(thread.memo, (0,)), Prompt(opening))
            children.append(replace(self._ask((0,), context, thread.memo), name=place))
        if not children:
            return malformed(ViolationKind.NO_CHILDREN, call.start, "no sub search of a node that is there")
        return Fork(children=tuple(children), barrier=self.barrier(), notes=notes)

    def _joined_searches(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> tuple[Span, ...]:
        """What the parent reads: its text in front of the call, and the results."""
        reading = self._tags.read(thread.last)
        call = reading.last(apr_text.CALLING)
        assert call is not None, "only a call of sub searches is joined"
        spans = [*thread.last.context, *reading.before(call), *self.forced(f"{apr_text.RESULTS}\n")]
        for result in results:
            if result.value is None:
                nothing = self.forced(apr_text.reported(result.name, found=False))
                spans += [*self.result_text(result, nothing), *self.forced("\n")]
            else:
                line = self.forced(f"{apr_text.reported(result.name, found=True)}\n")
                spans += [*line, *result.value, *self.forced("\n")]
        return (*spans, *self.forced(f"{apr_text.RESULTS_END}\n"))

    def _spawn(self, thread: ThreadView, reading: Reading) -> Action:
        """Read `... <spawn> MESSAGE <and> MESSAGE ... <join>`."""
        spawn, join = reading.last("<spawn>"), reading.marks[-1]
        if spawn is None:
            return malformed(ViolationKind.JOIN_WITHOUT_FORK, join.start, "join without spawn")
        if thread.num_forks >= self._params.rounds:
            detail = f"more than {self._params.rounds} spawns"
            return malformed(ViolationKind.FORK_NOT_ALLOWED, spawn.start, detail)
        notes: list[Note] = []
        messages: list[tuple[Span, ...]] = []
        left: Mark = spawn
        for right in (*(mark for mark in reading.all("<and>") if mark.start > spawn.start), join):
            message = reading.between(left, right)
            if message:
                messages.append(message)
            else:
                notes.append(Note(kind=ViolationKind.EMPTY_CHILD, position=right.start))
            left = right
        if not messages:
            return malformed(ViolationKind.NO_CHILDREN, spawn.start, "nothing between spawn and join")
        return Fork(
            children=tuple(self._child(thread, message, len(messages)) for message in messages),
            barrier=self.barrier(),
            notes=tuple(notes),
        )

    def _child(self, thread: ThreadView, message: tuple[Span, ...], siblings: int) -> Ask:
        budget = thread.memo
        if self._params.condition == "spawns":
            budget = max(0, budget - siblings) // siblings
        path = (*thread.path, 0)
        context = self.frame("child", self._prefix(budget, path), *message)
        return self._ask(path, context, budget)

    def _teach_root(self, tree: SearchTree, call_number: int) -> tuple[int, ...]:
        if self._as_published:
            calls = call_number == 0 and tree.children
            text = apr_text.calls_in(tree.children) if calls else apr_text.conclusion(tree)
            return self.say(text, *(() if calls else (EOS,)))
        if call_number == 0 and tree.children:
            return self.say(*self._spawn_words(tree.children))
        conclusion = (tree.conclusion,) if tree.conclusion else ()
        return self.say(*conclusion, *self.answer.words(tree.solution, conclusion), EOS)

    def _nests(self, node: SearchNode, depth: int) -> bool:
        """Whether a perfect imitator spawns below this node: as soon as it may and there is a choice."""
        return depth < self._params.budgets.depth and len(node.children) > 1

    def _spawn_words(self, children: tuple[SearchNode, ...]) -> Iterator[str]:
        for number, child in enumerate(children):
            yield "<and>" if number else "<spawn>"
            yield child.message
        yield "<join>"

    def _used(self, tree: SearchTree) -> int:
        """Cost of a search, in units of the budget."""
        if self._params.condition != "tokens":
            return sum(1 + self._spawns(child, 1) for child in tree.children)
        tokens = len(self._teach_root(tree, 0)) + (len(self._teach_root(tree, 1)) if tree.children else 0)
        tokens += sum(self._tokens_below(tree, (key,)) for key in range(len(tree.children)))
        return -(-tokens // self._params.budget_unit)

    def _spawns(self, node: SearchNode, depth: int) -> int:
        if not self._nests(node, depth):
            return 0
        return sum(1 + self._spawns(child, depth + 1) for child in node.children)

    def _tokens_below(self, tree: SearchTree, path: tuple[int, ...]) -> int:
        node = tree.children[path[0]]
        for key in path[1:]:
            node = node.children[key]
        tokens = len(self.teach(tree, path, 0))
        if self._nests(node, len(path)):
            tokens += len(self.teach(tree, path, 1))
            tokens += sum(self._tokens_below(tree, (*path, key)) for key in range(len(node.children)))
        return tokens
