"""Base of searches that a scorer guides: texts grow step by step, and their scores decide which go on.

All are one loop. The root opens threads that each sample one step behind the text of another thread, or
behind the problem; when they have ended, it asks the scorer for the new texts and the protocol chooses:

    call 0  thread 0  <solo> 37 10 <think>            1 2                          step of 2 tokens
    call 1  thread 1  <solo> 37 10 <think>            3 4
    scoring           the texts of calls 0 and 1      0.2, 0.9
    call 2  thread 2  <solo> 37 10 <think> 3 4        5 6                        behind thread 1, by reference
    call 3  thread 3  <solo> 37 10 <think> 3 4        <answer> 5 <eos>           a finished text

A text is what a `sequential` thread writes, so a model trained on its demonstrations can be searched, and the
engine's prefix cache has the beginnings that texts share. Every step is a call with its own seed, tokens and
log-probabilities: a search is recorded, paid for and trained like any other episode. The root samples
nothing; its answer is that of a finished text.

A protocol is the rule `grow`: nodes with their scores -> the nodes that are continued next. It is a function
of the tree alone. Demonstrations run the same rule on pieces of a solver's attempts, each with the score 1.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from data.episodes.trajectory import Call, StopReason, ThreadOutcome
from data.steps.aggregates import AGGREGATES
from data.tasks.search_tree import SearchTree, rotated
from data.text.prompt import Prompt
from rollout.protocols.shared.base import (
    EOS,
    Action,
    Ask,
    AskScorer,
    Fork,
    Return,
    ThreadResult,
    ThreadView,
    cut_off,
    whole,
)
from rollout.protocols.shared.chains import attempt_words
from rollout.protocols.shared.scored_texts import (
    ScoredTexts,
    StepParams,
    scores_by_call,
)
from rollout.protocols.shared.spoken import in_last_call, spoken
from rollout.protocols.shared.step_cut import cut_at_stop
from rollout.protocols.shared.tags import length


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A text so far: one step behind the text of its parent. What a search may decide by."""

    index: int
    """Place among all threads that the root has opened."""
    parent: "Node | None"
    output: tuple[int, ...]
    """Sampled ids of its own step."""
    scores: tuple[float, ...]
    """Scores of all steps of the text."""
    finished: bool
    """Whether the text has ended."""
    answered: bool
    """Whether it has ended with an answer."""
    fresh: bool
    """Whether it was sampled in the last round."""
    opened: bool
    """Whether it has been continued."""
    calls: tuple[Call, ...] = ()
    """Calls of the text, in order; () in a demonstration that is being built."""

    @property
    def path(self) -> tuple["Node", ...]:
        """Nodes of the text, its first step first."""
        return (self,) if self.parent is None else (*self.parent.path, self)

    @property
    def depth(self) -> int:
        """Number of steps of the text."""
        return len(self.path)

    @property
    def tokens(self) -> int:
        """Sampled tokens of the text."""
        return sum(len(node.output) for node in self.path)

    @property
    def grows(self) -> bool:
        """Whether it is of the last round and not finished."""
        return self.fresh and not self.finished


class TreeSearch(ScoredTexts):
    """Base class that samples and scores steps; the subclass's `grow` chooses."""

    @abstractmethod
    def grow(self, nodes: Sequence[Node]) -> list[Node | None]:
        """Nodes to continue in the next round, each as often as it is continued; None begins a new text.

        `nodes` are all nodes so far but those that cannot be continued: failed, cancelled, cut off; none at
        the beginning. [] ends the search.
        """

    def value(self, node: Node) -> float:
        """How good a text is; 0 where nothing was scored."""
        return AGGREGATES[self._params.aggregate](node.scores) if node.scores else 0.0

    def open(self, prompt: Prompt, tree: SearchTree | None = None) -> Fork:
        return self._round(prompt, self.grow(()))

    def on_call(self, thread: ThreadView) -> Action:
        calls = (*thread.said, thread.last)
        said = spoken(calls)
        reading = self._tags.read(said)
        if reading.ending == EOS:
            return in_last_call(self.answer.end(reading), calls)
        used_up = len(said.output) >= self._params.chain_tokens or len(calls) >= self.most_steps
        if used_up or not thread.last.output:
            return cut_off()
        return Return(outcome=ThreadOutcome.RETURNED, value=None)

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        asked = tuple(result.calls[-1].index for result in results if self._is_open(result))
        if asked:
            return AskScorer(calls=asked)
        # Texts that gave up have nothing to be scored for, and those that failed are over. Where none made a
        # call, a budget is used up, and another round would not run either.
        ran = any(result.calls for result in results)
        return self._go_on(thread, frozenset()) if ran else self._conclude(thread, frozenset())

    def on_scores(self, thread: ThreadView) -> Action:
        return self._go_on(thread, frozenset(thread.scorings[-1].calls))

    def needed_length(self, prompt: Prompt) -> int:
        return length(self.frame("chain", prompt)) + self._params.chain_tokens

    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        """The piece of an attempt that the thread at `path` shows, by the search's own rule.

        A thread behind the problem begins the attempt with its number; the others go on with their parent's.
        """
        nodes: list[Node] = []
        opened = 0
        attempts: dict[int, int] = {}
        texts: dict[int, tuple[int, ...]] = {}
        while True:
            parents = self.grow(nodes)
            assert parents, "the thread was opened by the same rule"
            grown = {parent.index for parent in parents if parent is not None}
            nodes = [replace(node, fresh=False, opened=node.opened or node.index in grown) for node in nodes]
            current = {node.index: node for node in nodes}
            for number, before in enumerate(parents):
                index, parent = opened + number, None if before is None else current[before.index]
                attempt = attempts[index] = number if parent is None else attempts[parent.index]
                if attempt not in texts:
                    texts[attempt] = self.say(*attempt_words(tree, attempt, self.answer), EOS)
                output = self._piece(texts[attempt], parent)
                if path == (index,):
                    return output
                if number < self._params.budgets.width:
                    nodes.append(self._taught(tree, index, parent, output, attempt))
            opened += len(parents)

    @property
    def most_steps(self) -> int:
        """Steps of the longest text."""
        params = self._params
        return params.steps if isinstance(params, StepParams) else params.chain_tokens

    @property
    def most_step_tokens(self) -> int:
        """Tokens of the longest step but the last."""
        params = self._params
        return params.step_tokens if isinstance(params, StepParams) else params.chain_tokens

    def _go_on(self, thread: ThreadView, fresh: frozenset[int]) -> Action:
        nodes = self._nodes(thread, fresh)
        parents = self.grow(nodes) if nodes else []
        return self._round(thread.prompt, parents) if parents else self._conclude(thread, fresh)

    def _conclude(self, thread: ThreadView, fresh: frozenset[int]) -> Return:
        """End with the answer of the finished texts; none when no text has one."""
        found = [node for node in self._nodes(thread, fresh) if node.answered]
        results = tuple(thread.results[node.index] for node in found)
        return self.picked(results, [self.value(node) for node in found])

    def _nodes(self, thread: ThreadView, fresh: frozenset[int]) -> list[Node]:
        """The tree so far. A thread's memo is 1 + the index of the thread whose text it continues."""
        scored = scores_by_call(thread.scorings)
        opened = {result.memo - 1 for result in thread.results}
        nodes: dict[int, Node] = {}
        for index, result in enumerate(thread.results):
            if result.outcome is not ThreadOutcome.RETURNED:
                continue
            call = result.calls[-1]
            parent = nodes[result.memo - 1] if result.memo else None
            before = ((), ()) if parent is None else (parent.scores, parent.calls)
            nodes[index] = Node(
                index=index,
                parent=parent,
                output=call.output,
                scores=(*before[0], *scored.get(call.index, ())),
                finished=self._ended(call),
                answered=result.value is not None,
                fresh=call.index in fresh,
                opened=index in opened,
                calls=(*before[1], call),
            )
        return list(nodes.values())

    def _is_open(self, result: ThreadResult) -> bool:
        """Whether a thread's text is to be scored: it has an answer, or can be continued."""
        returned = result.outcome is ThreadOutcome.RETURNED
        return returned and (result.value is not None or not self._ended(result.calls[-1]))

    def _ended(self, call: Call) -> bool:
        return call.stop is StopReason.STOP and call.output[-1] in self._encoder.ends

    def _round(self, prompt: Prompt, parents: Sequence[Node | None]) -> Fork:
        return Fork(children=tuple(self._step(prompt, parent) for parent in parents), barrier=self.barrier())

    def _step(self, prompt: Prompt, parent: Node | None) -> Ask:
        """The call of the step behind a node."""
        is_last = self._depth_behind(parent) >= self.most_steps
        said = () if parent is None else parent.calls
        return Ask(
            role="chain",
            context=(*said[-1].context, whole(said[-1])) if said else self.frame("chain", prompt),
            stops=self._tags.stops() if is_last else self._step_stops,
            max_tokens=self._room_behind(parent),
            memo=0 if parent is None else parent.index + 1,
            said=said,
        )

    def _depth_behind(self, parent: Node | None) -> int:
        return 1 if parent is None else parent.depth + 1

    def _room_behind(self, parent: Node | None) -> int:
        """Tokens of the step behind a node; the last step of a text may take all that are left."""
        left = self._params.chain_tokens - (0 if parent is None else parent.tokens)
        is_last = self._depth_behind(parent) >= self.most_steps
        return left if is_last else min(left, self.most_step_tokens)

    def _piece(self, text: tuple[int, ...], parent: Node | None) -> tuple[int, ...]:
        """What an engine would cut off a demonstrated text as the step behind a node.

        A text that is too long comes whole, so that the demonstration is left out and not cut.
        """
        if len(text) > self._params.chain_tokens:
            return text
        start = 0 if parent is None else parent.tokens
        rest = text[start:]
        if self._depth_behind(parent) >= self.most_steps:
            return rest
        return cut_at_stop(rest[: self._room_behind(parent)], self._step_stops, self._encoder)

    def _taught(
        self, tree: SearchTree, index: int, parent: Node | None, output: tuple[int, ...], attempt: int
    ) -> Node:
        """The node of a demonstrated step."""
        finished = output[-1] in self._encoder.ends
        answered = finished and rotated(tree, attempt).solution is not None
        scored = (1.0,) if answered or not finished else ()
        return Node(
            index=index,
            parent=parent,
            output=output,
            scores=((*parent.scores, *scored) if parent is not None else scored),
            finished=finished,
            answered=answered,
            fresh=bool(scored),
            opened=False,
        )
