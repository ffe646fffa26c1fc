"""Base of searches in which each chain decides for itself, step by step, with the scorer's help.

A chain is one thread. It samples a step, asks the scorer about the text so far, and the protocol says which
text goes on:

    call 0   thread 0  <solo> 37 10 <think>          1 2                    step of 2 tokens
    scoring            the text of call 0            0.2
    call 1   thread 0  <solo> 37 10 <think>          3 4                    call 0 is dropped
    scoring            the text of call 1            0.9
    call 2   thread 0  <solo> 37 10 <think> 3 4      <answer> 5 <eos>       behind call 1, by reference
    scoring            the text of call 2            0.8

No chain waits for another, where a search by `rollout.protocols.shared.tree_search` waits for all at the end
of a round. A text is what a `sequential` thread writes. Every step is a call with its own seed, tokens and
log-probabilities, dropped ones too: recorded, paid for and trained. Which steps a text has is read off the
references in the context of its last call, so that nothing is remembered between calls.

A protocol is the rule `decide`: the steps that a chain has tried, with their scores -> the text that goes on.
Demonstrations run the same rule on pieces of a solver's attempts, each with the score 1.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from data.episodes.trajectory import Call, Ref, Scoring, StopReason, ThreadOutcome
from data.steps.aggregates import AGGREGATES
from data.tasks.search_tree import SearchTree, rotated
from data.text.prompt import Prompt
from rollout.protocols.selection.tried_steps import Move, Tried
from rollout.protocols.shared.base import (
    EOS,
    Action,
    Ask,
    AskScorer,
    Continue,
    Fork,
    Return,
    ThreadResult,
    ThreadView,
    cut_off,
    whole,
)
from rollout.protocols.shared.chains import attempt_words
from rollout.protocols.shared.scored_texts import ScoredTexts, StepParams, scores_by_call
from rollout.protocols.shared.spoken import in_last_call, spoken
from rollout.protocols.shared.step_cut import cut_at_stop
from rollout.protocols.shared.tags import length


class StepChainParams(StepParams):
    """Recipe section of a search in which each chain decides for itself. `width` is the number of chains."""

    has_rounds: ClassVar[bool] = False


class StepChains(ScoredTexts):
    """Base class that samples and scores the steps of chains; the subclass's `decide` chooses."""

    _params: StepChainParams

    @abstractmethod
    def decide(self, tried: Sequence[Tried], memo: int) -> Move:
        """The move of a chain that has tried these steps; its first for (). `memo`: of its first call."""

    def trained(self, role: str) -> int | None:
        """Leading output tokens that carry loss, for calls of this role; None means all."""
        return None

    def open(self, prompt: Prompt, tree: SearchTree | None = None) -> Fork:
        return self._chains(prompt)

    def on_call(self, thread: ThreadView) -> Action:
        said = _text(thread.calls, thread.last)
        end = self._end(said)
        if end is None or end.value is not None:
            return AskScorer(calls=(thread.last.index,))
        return self._go_on(thread)

    def on_scores(self, thread: ThreadView) -> Action:
        return self._go_on(thread)

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        found = tuple(result for result in results if self.given(result) is not None)
        return self.picked(found, [self.value(result) for result in found])

    def step_value(self, scores: Sequence[float]) -> float:
        """One value of the scores that the scorer gave for a step's own text; at least one."""
        return AGGREGATES[self._params.aggregate](scores)

    def value(self, result: ThreadResult) -> float:
        """How good the text is that a chain returned: one value of the scores of all its steps."""
        move = self.decide(self._tried(result.calls, result.scorings), result.memo)
        scored = scores_by_call(result.scorings)
        scores = [score for place in move.path for score in scored.get(result.calls[place].index, ())]
        return self.step_value(scores)

    def needed_length(self, prompt: Prompt) -> int:
        return max(length(self.frame(role, prompt)) for role in self.roles) + self._params.chain_tokens

    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        return self._shown(tree, path[0], call_number)

    def _shown(self, tree: SearchTree, attempt: int, call_number: int) -> tuple[int, ...]:
        """Output of a call in which a chain shows a piece of an attempt, by its own rule."""
        text = self.say(*attempt_words(tree, attempt, self.answer), EOS)
        if len(text) > self._params.chain_tokens:
            return text  # whole, so that the demonstration is left out and not cut
        solved = rotated(tree, attempt).solution is not None
        tried: list[Tried] = []
        pieces: list[tuple[int, ...]] = []
        while True:
            move = self.decide(tried, 0)
            assert not move.ends, "the call was made by the same rule"
            behind = [pieces[place] for place in move.path]
            pieces.append(self._piece(text, behind))
            if len(tried) == call_number:
                return pieces[-1]
            finished = pieces[-1][-1] in self._encoder.ends
            good = solved or not finished
            tried.append(
                Tried(value=float(good), role=move.role, finished=finished, answered=finished and solved)
            )

    def _chains(self, prompt: Prompt, memo: int = 0) -> Fork:
        """The fork of all chains."""
        first = self._step(prompt, (), self.decide((), memo).role, memo)
        return Fork(children=(first,) * self._params.width, barrier=self.barrier())

    def _step(self, prompt: Prompt, said: tuple[Call, ...], role: str, memo: int = 0) -> Ask:
        """The call of the step behind a text."""
        return Ask(
            role=role,
            context=(*self.frame(role, prompt), *map(whole, said)),
            stops=self._tags.stops() if self._is_last(len(said)) else self._step_stops,
            max_tokens=self._room(len(said), sum(len(call.output) for call in said)),
            trained=self.trained(role),
            memo=memo,
        )

    def _go_on(self, thread: ThreadView) -> Action:
        move = self.decide(self._tried(thread.calls, thread.scorings), thread.memo)
        last = self._end(_text(thread.calls, thread.last))
        notes = () if last is None else last.notes
        said = tuple(thread.calls[place] for place in move.path)
        if not move.ends:
            return Continue(ask=self._step(thread.prompt, said, move.role), notes=notes)
        end = self._end(said) if said else last
        # A chain may end with an earlier text than its last one, whose notes these are.
        return replace(end or Return(outcome=ThreadOutcome.RETURNED, value=None), notes=notes)

    def _tried(self, calls: Sequence[Call], scorings: Sequence[Scoring]) -> list[Tried]:
        """The steps of a chain, in the order of its calls."""
        scored = scores_by_call(scorings)
        found = []
        for call in calls:
            end, scores = self._end(_text(calls, call)), scored.get(call.index)
            found.append(
                Tried(
                    value=self.step_value(scores) if scores else 0.0,
                    role=call.role,
                    finished=end is not None,
                    answered=end is not None and end.value is not None,
                )
            )
        return found

    def _end(self, said: Sequence[Call]) -> Return | None:
        """How a text has ended; None when it can go on."""
        last, params = said[-1], self._params
        if last.stop is StopReason.STOP and last.output[-1] in self._encoder.ends:
            return in_last_call(self.answer.end(self._tags.read(spoken(said))), said)
        used_up = sum(len(call.output) for call in said) >= params.chain_tokens or len(said) >= params.steps
        return cut_off() if used_up or not last.output else None

    def _is_last(self, steps: int) -> bool:
        """Whether the step behind so many is the last that a text may have."""
        return steps + 1 >= self._params.steps

    def _room(self, steps: int, tokens: int) -> int:
        """Tokens of the step behind so many; the last one may take all that are left."""
        left = self._params.chain_tokens - tokens
        return left if self._is_last(steps) else min(left, self._params.step_tokens)

    def _piece(self, text: tuple[int, ...], behind: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """What an engine would cut off a demonstrated text as the step behind these."""
        start = sum(map(len, behind))
        rest = text[start : start + self._room(len(behind), start)]
        return rest if self._is_last(len(behind)) else cut_at_stop(rest, self._step_stops, self._encoder)


def _text(calls: Sequence[Call], call: Call) -> tuple[Call, ...]:
    """The calls whose text one of them continues, and itself."""
    own = {each.index: each for each in calls}
    return (*(own[span.call] for span in call.context if isinstance(span, Ref)), call)
