"""One line of thought: the same search, told one branch after the other.

Source: the sequential baseline of APR (arXiv 2504.15466, "SoS+"). There are no children and no joins; one
call is the whole episode, so it equals the published method on an unmodified engine. The search is
written with this project's words for it, not the paper's.

    <solo> 37 10 9 4 2 <think>   <try> 9 * 4 10 2 36 ... <try> ... <answer> 9 * 4 10 / ... <eos>  (or
    <giveup> <eos>)
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from data.search_tree import SearchNode, SearchTree
from data.trajectory import Forced, StopReason, ThreadOutcome
from rollout.protocols.answers import end_with_answer
from rollout.protocols.base import (
    Action,
    Ask,
    ProtocolParams,
    Return,
    ThinkingProtocol,
    ThreadResult,
    ThreadView,
)


class SequentialParams(ProtocolParams):
    """Recipe section of `sequential`."""

    name: Literal["sequential"]
    """Which protocol."""
    max_tokens: int = Field(default=440, ge=1)
    """Sampled tokens of the episode."""


class Sequential(ThinkingProtocol):
    """See the module."""

    name: ClassVar[str] = "sequential"
    params_class: ClassVar[type[ProtocolParams]] = SequentialParams

    _params: SequentialParams

    @classmethod
    def tags(cls) -> tuple[str, ...]:
        return ("<solo>", "<think>", "<try>", "<answer>", "<giveup>")

    @classmethod
    def endings(cls) -> tuple[str, ...]:
        return ("<answer>", "<giveup>")

    def open(self, prompt: tuple[int, ...], tree: SearchTree | None = None) -> Ask:
        context = (Forced(ids=(self._tag["<solo>"], *prompt, self._tag["<think>"])),)
        return Ask(role="solo", context=context, stops=(self._eos,), max_tokens=self._params.max_tokens)

    def on_call(self, thread: ThreadView) -> Action:
        call = thread.last
        if call.stop is StopReason.LENGTH:
            return Return(outcome=ThreadOutcome.TRUNCATED, value=None)
        return end_with_answer(call, self._tag["<answer>"], self._tag["<giveup>"])

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        raise AssertionError("a sequential episode never forks")

    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        ids: list[int] = []
        for child in tree.children:
            for word in _visit(child):
                ids += (self._tag[word],) if word in self._tag else self._encode(word)
            if child.solution is not None:
                break
        if tree.solution is None:
            return (*ids, self._tag["<giveup>"], self._eos)
        return (*ids, self._tag["<answer>"], *self._encode(tree.solution), self._eos)

    def needed_length(self, prompt_tokens: int) -> int:
        return 2 + prompt_tokens + self._params.max_tokens


def _visit(node: SearchNode) -> Iterator[str]:
    """A first-level node announces its move; what lies below is written by its traces."""
    yield "<try>"
    yield node.move
    yield from trace_words(node)


def trace_words(node: SearchNode) -> Iterator[str]:
    """Texts written while visiting a node, depth-first, stopping at the first solution."""
    yield node.trace
    for child in node.children:
        yield from trace_words(child)
        if child.solution is not None:
            return
