"""A planner writes outlines that differ; one path follows each; a vote or a call over all makes the answer.

Source: OPE (arXiv 2602.08344). The planner sees the problem and writes outlines between `<and>`; a path sees
the problem and its outline, not the other outlines, and solves the whole problem; the join is the answer
that most paths give, or a call that sees them all (`join: aggregate`). Every call is one causal token list,
so this equals the published method on an unmodified engine, in this project's words. How many outlines there
are is the planner's own choice, at most `budgets.width`; the paper fixes their number.

    call 0  planner  <planner> 37 10 9 4 2 <think>                        9 * 4 10 2 <and> 10 - 4 9 2 <eos>
    call 1  path 0   <solo> 37 10 9 4 2 <outline> 9 * 4 10 2 <think>      36 ... <answer> 9 * 4 ... <eos>
    call 2  path 1   <solo> 37 10 9 4 2 <outline> 10 - 4 9 2 <think>      6 ... <giveup> <eos>
    call 3  root     <aggregate> 37 10 9 4 2 <results> 9 * 4 ... <and> <nothing> <end> <think>
                                                                          <answer> 9 * 4 ... <eos>

The paper trains planning and paths in turn, each on its own: stages with `trained: planner` and
`trained: paths`. A planner that sees no use in outlines may answer or give up at once.

Demonstrations: of alternatives, one outline for each, and its path visits that alone; of parts there is one
way, so one outline names all and its path does all.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from data.episodes.trajectory import Span, StopReason, ViolationKind
from data.tasks.search_tree import SearchTree
from data.text.prompt import Prompt
from rollout.protocols.shared.answers import ANSWER_TAGS
from rollout.protocols.shared.base import (
    EOS,
    Action,
    Ask,
    Continue,
    Fork,
    ForkingParams,
    Layout,
    Mark,
    Note,
    ProtocolCard,
    ProtocolParams,
    Reading,
    Results,
    Role,
    ThinkingProtocol,
    ThreadResult,
    ThreadView,
    cut_off,
    malformed,
)
from rollout.protocols.shared.chains import SOLO_TAGS
from rollout.protocols.shared.search_text import solo_words, trace_words
from rollout.protocols.shared.tags import length


class OutlineGuidedParams(ForkingParams):
    """Recipe section of `outline_guided`; how many outlines run is `budgets.width`."""

    name: Literal["outline_guided"]
    """Name of the protocol."""
    planner_tokens: int = Field(default=96, ge=1, le=10_000_000)
    """Most sampled tokens of the planner, for all outlines together."""
    path_tokens: int = Field(default=220, ge=1, le=10_000_000)
    """Most sampled tokens of one path."""
    join: Literal["vote", "aggregate"] = "vote"
    """Source of the answer: the majority of the paths, or a call that sees all their answers."""
    aggregate_tokens: int = Field(default=64, ge=1, le=10_000_000)
    """Most sampled tokens of the call of `join: aggregate`."""
    trained: Literal["all", "planner", "paths"] = "all"
    """Calls with loss: all, the planner's alone, or all but the planner's."""


class OutlineGuided(ThinkingProtocol):
    """A planner, one path for each of its outlines, and an answer from all paths."""

    name: ClassVar[str] = "outline_guided"
    params_class: ClassVar[type[ProtocolParams]] = OutlineGuidedParams
    roles: ClassVar[dict[str, Role]] = {
        "planner": Role(
            opens="<planner>",
            instruction="{problem}\n\nDo not solve this yet. Write up to {width} different outlines of a "
            "solution, each in a few words, with <and> between two outlines and nothing else.",
        ),
        "path": Role(
            opens="<solo>",
            instruction="{problem}\n\nFollow this outline: {task}\n\nThink step by step. {answer}",
        ),
        "aggregator": Role(
            opens="<aggregate>",
            instruction="{problem}\n\nSeveral attempts gave these answers:\n\n{results:Answer}\n\nDecide "
            "which is right. {answer}",
        ),
    }
    role_tags: ClassVar[tuple[str, ...]] = (
        *("<planner>", "<outline>", "<solo>", "<think>", "<aggregate>", "<results>", "<end>"),
    )
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="OPE (arXiv 2602.08344)",
        child_context="the problem and its outline",
        join="vote, or a call over all answers",
        exact="yes; the planner chooses the number of outlines",
        trained="all sampled; by recipe the planner alone or the paths alone (alternating, as published)",
        barrier="ALL; FIRST_K or FIRST_SUCCESS by recipe",
    )
    handles_needs: ClassVar[bool] = True

    _params: OutlineGuidedParams

    @classmethod
    def tags_of(cls, params: ProtocolParams) -> tuple[str, ...]:
        return (
            *("<planner>", "<and>", "<outline>", *SOLO_TAGS),
            *("<aggregate>", "<results>", "<nothing>", "<end>"),
        )

    @classmethod
    def endings(cls) -> tuple[str, ...]:
        return ANSWER_TAGS

    def open(self, prompt: Prompt, tree: SearchTree | None = None) -> Continue:
        context = self.frame("planner", prompt)
        return Continue(ask=self._ask("planner", context, self._params.planner_tokens))

    def on_call(self, thread: ThreadView) -> Action:
        if thread.last.stop is StopReason.LENGTH:
            return cut_off()
        reading = self._tags.read(thread.last)
        plans = thread.last.role == "planner" and not self.answer.announced(reading)
        return self._fork(thread, reading) if plans else self.end(thread)

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        if self._params.join == "vote":
            return self.most_voted(results)
        shown = (self.result_text(result, self.nothing) for result in results)
        context = self.frame("aggregator", thread.prompt, Results(items=tuple(shown)))
        return Continue(ask=self._ask("aggregator", context, self._params.aggregate_tokens))

    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        if path:
            return self.say(*self._path_words(tree, path[0]), EOS)
        if call_number or not tree.children:
            return self.say(*self.answer.words(tree.solution), EOS)
        moves = [child.move for child in tree.children]
        return self.say(*(moves if tree.every else _between(moves)), EOS)

    def needed_length(self, prompt: Prompt) -> int:
        planner = self._params.planner_tokens
        path = (
            length(self.frame("path", prompt, Layout(tag="<outline>"))) + planner + self._params.path_tokens
        )
        return max(length(self.frame("planner", prompt)) + planner, path)

    def _ask(self, role: str, context: tuple[Span, ...], max_tokens: int) -> Ask:
        params = self._params
        trains = params.trained == "all" or (params.trained == "planner") == (role == "planner")
        return Ask(
            role=role,
            context=context,
            stops=self._tags.stops(),
            max_tokens=max_tokens,
            trained=None if trains else 0,
        )

    def _fork(self, thread: ThreadView, reading: Reading) -> Action:
        """Read `OUTLINE <and> OUTLINE ... <eos>`."""
        if reading.ending != EOS:
            return malformed(ViolationKind.UNCLOSED_TAG, reading.end, "outlines without an end")
        notes: list[Note] = []
        paths: list[Ask] = []
        left: Mark | None = None
        for right in (*reading.all("<and>"), None):
            outline = reading.between(left, right)
            if outline:
                context = self.frame("path", thread.prompt, Layout(tag="<outline>"), *outline)
                paths.append(self._ask("path", context, self._params.path_tokens))
            else:
                position = reading.end if right is None else right.start
                notes.append(Note(kind=ViolationKind.EMPTY_CHILD, position=position))
            left = right
        if not paths:
            return malformed(ViolationKind.NO_CHILDREN, reading.end, "no outlines")
        return Fork(children=tuple(paths), barrier=self.barrier(), notes=tuple(notes))

    def _path_words(self, tree: SearchTree, number: int) -> Iterator[str]:
        """Text that follows the `number`-th outline."""
        if tree.every:
            yield from solo_words(tree, self.answer)
            return
        child = tree.children[number]
        trace = tuple(trace_words(child))
        yield from trace
        yield from self.answer.words(child.solution, trace)


def _between(moves: list[str]) -> Iterator[str]:
    for number, move in enumerate(moves):
        if number:
            yield "<and>"
        yield move
