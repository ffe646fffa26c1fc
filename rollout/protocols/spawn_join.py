"""A parent spawns children with messages of its own making, waits for all, and goes on with what they found.

Source: Learning Adaptive Parallel Reasoning (APR, arXiv 2504.15466), section 3. As there:
  - a child sees only the message its parent wrote for it: not the problem, not the parent's thoughts;
  - the resumed parent sees its own text up to the spawn (the spawn text itself leaves) and what the
  children returned:
    the solution of one that succeeded, one short line for one that did not;
  - a forced spawn budget in front of the prompt can condition how many children are spawned; children do
  not see it.
Every call is one causal token list, so this equals the published method on an unmodified engine. What
differs: the words and tags are this project's own, and results are copied by token reference, never
re-tokenised.

    call 0  parent  <parent> 37 10 9 4 2 <think>            <spawn> 37 9 * 4 10 2 <and> 37 10 - 4 9 2 <join>
    call 1  child   <child> 37 9 * 4 10 2 <think>           36 ... <found> 9 * 4 10 / ... <eos>
    call 2  child   <child> 37 10 - 4 9 2 <think>           6 ... <nothing> <eos>
    call 3  parent  <parent> 37 10 9 4 2 <think> <results> <found> 9 * ... <nothing> <end>
                                                            <answer> 9 * 4 10 / ... <eos>
"""

from typing import ClassVar, Literal

from pydantic import Field

from data.search_tree import SearchNode, SearchTree
from data.trajectory import Call, Forced, Ref, Span, StopReason, ThreadOutcome, ViolationKind
from rollout.protocols.answers import end_with_answer
from rollout.protocols.base import (
    Action,
    Ask,
    Continue,
    Fork,
    Note,
    ProtocolParams,
    Return,
    ThinkingProtocol,
    ThreadResult,
    ThreadView,
)
from rollout.protocols.sequential import trace_words


class SpawnJoinParams(ProtocolParams):
    """Recipe section of `spawn_join`; how many children is `budgets.width`, how deep `budgets.depth`."""

    name: Literal["spawn_join"]
    """Which protocol."""
    parent_tokens: int = Field(default=96, ge=1)
    """Sampled tokens of one parent call."""
    child_tokens: int = Field(default=72, ge=1)
    """Sampled tokens of one child call."""
    rounds: int = Field(default=1, ge=1)
    """Spawns one thread may make."""
    budget_prefix: bool = False
    """Put `<budget> n` in front of the prompt: in demonstrations n is the number of children there are."""
    spawn_budget: int = Field(default=6, ge=1)
    """The n of rollouts when `budget_prefix` is on."""


class SpawnJoin(ThinkingProtocol):
    """See the module."""

    name: ClassVar[str] = "spawn_join"
    params_class: ClassVar[type[ProtocolParams]] = SpawnJoinParams

    _params: SpawnJoinParams

    @classmethod
    def tags(cls) -> tuple[str, ...]:
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
            *("<found>", "<nothing>", "<answer>", "<giveup>"),
        )

    @classmethod
    def endings(cls) -> tuple[str, ...]:
        return ("<found>", "<nothing>", "<answer>", "<giveup>")

    def open(self, prompt: tuple[int, ...], tree: SearchTree | None = None) -> Ask:
        budget: tuple[int, ...] = ()
        if self._params.budget_prefix:
            count = self._params.spawn_budget if tree is None else len(tree.children)
            budget = (self._tag["<budget>"], *self._encode(str(count)))
        ids = (self._tag["<parent>"], *budget, *prompt, self._tag["<think>"])
        return self._ask_parent((Forced(ids=ids),))

    def on_call(self, thread: ThreadView) -> Action:
        call = thread.last
        if call.stop is StopReason.LENGTH:
            return Return(outcome=ThreadOutcome.TRUNCATED, value=None)
        if call.output[-1] == self._tag["<join>"]:
            return self._spawn(thread, call)
        if thread.path:
            return self._end_child(call)
        return end_with_answer(call, self._tag["<answer>"], self._tag["<giveup>"])

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        call = thread.last
        kept = Ref(call=call.index, start=0, stop=_last(call.output, self._tag["<spawn>"]))
        spans: list[Span] = [
            *call.context,
            *((kept,) if len(kept) else ()),
            Forced(ids=(self._tag["<results>"],)),
        ]
        for result in results:
            spans.extend(result.value or (Forced(ids=(self._tag["<nothing>"],)),))
        spans.append(Forced(ids=(self._tag["<end>"],)))
        return Continue(ask=self._ask_child(tuple(spans)) if thread.path else self._ask_parent(tuple(spans)))

    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        if path:
            return self._teach_child(tree.children[path[0]])
        if call_number == 0 and tree.children:
            ids = [self._tag["<spawn>"]]
            for key, child in enumerate(tree.children):
                ids += ([self._tag["<and>"]] if key else []) + list(self._encode(child.message))
            return (*ids, self._tag["<join>"])
        if tree.solution is None:
            return (self._tag["<giveup>"], self._eos)
        return (self._tag["<answer>"], *self._encode(tree.solution), self._eos)

    def needed_length(self, prompt_tokens: int) -> int:
        opened = 3 + len(self._encode(str(self._params.spawn_budget))) + prompt_tokens
        parent = opened + self._params.parent_tokens
        return max(parent, 2 + self._params.parent_tokens + self._params.child_tokens)

    def _ask_parent(self, context: tuple[Span, ...]) -> Ask:
        stops = (self._eos, self._tag["<join>"])
        return Ask(role="parent", context=context, stops=stops, max_tokens=self._params.parent_tokens)

    def _ask_child(self, context: tuple[Span, ...]) -> Ask:
        stops = (self._eos, self._tag["<join>"])
        return Ask(role="child", context=context, stops=stops, max_tokens=self._params.child_tokens)

    def _spawn(self, thread: ThreadView, call: Call) -> Action:
        """Reads `... <spawn> MESSAGE <and> MESSAGE ... <join>`."""
        start = _last(call.output, self._tag["<spawn>"])
        end = len(call.output) - 1
        if start == end:
            return _malformed(ViolationKind.UNEXPECTED_TOKEN, end, "join without spawn")
        if thread.num_forks >= self._params.rounds:
            return _malformed(
                ViolationKind.UNEXPECTED_TOKEN, start, f"more than {self._params.rounds} spawns"
            )
        notes: list[Note] = []
        children: list[Ask] = []
        first = start + 1
        for position in range(start + 1, end + 1):
            if position < end and call.output[position] != self._tag["<and>"]:
                continue
            if position > first:
                message = Ref(call=call.index, start=first, stop=position)
                head, tail = Forced(ids=(self._tag["<child>"],)), Forced(ids=(self._tag["<think>"],))
                children.append(self._ask_child((head, message, tail)))
            else:
                notes.append(Note(kind=ViolationKind.EMPTY_CHILD, position=position))
            first = position + 1
        if not children:
            return _malformed(ViolationKind.NO_CHILDREN, start, "nothing between spawn and join")
        return Fork(children=tuple(children), notes=tuple(notes))

    def _end_child(self, call: Call) -> Action:
        """Reads `... <found> SOLUTION <eos>` or `... <nothing> <eos>`; the tag goes back with what it
        announces.
        """
        output, end = call.output, len(call.output) - 1
        if end >= 1 and output[end - 1] == self._tag["<nothing>"]:
            value = (Ref(call=call.index, start=end - 1, stop=end),)
            return Return(outcome=ThreadOutcome.RETURNED, value=value)
        start = _last(output, self._tag["<found>"])
        if start + 1 >= end:
            return _malformed(ViolationKind.MALFORMED_RETURN, end, "ends without a result")
        return Return(outcome=ThreadOutcome.RETURNED, value=(Ref(call=call.index, start=start, stop=end),))

    def _teach_child(self, node: SearchNode) -> tuple[int, ...]:
        ids = [token for word in trace_words(node) for token in self._encode(word)]
        if node.solution is None:
            return (*ids, self._tag["<nothing>"], self._eos)
        return (*ids, self._tag["<found>"], *self._encode(node.solution), self._eos)


def _last(output: tuple[int, ...], token: int) -> int:
    """Position of the last occurrence; that of the last output token when there is none."""
    return next((i for i in range(len(output) - 1, -1, -1) if output[i] == token), len(output) - 1)


def _malformed(kind: ViolationKind, position: int, detail: str) -> Return:
    note = Note(kind=kind, position=position, detail=detail)
    return Return(outcome=ThreadOutcome.MALFORMED, value=None, notes=(note,))
