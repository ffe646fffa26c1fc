"""Chains whose thinking is cut short or prolonged by force, and the answer that most of them give.

Sources, by options: s1's budget forcing (arXiv 2501.19393); NoThinking (arXiv 2504.09858; `chain_tokens: 0`).
A chain that has used up `chain_tokens`, or ends without an answer, gets the beginning of an answer written
for it and only completes it; a chain that ends earlier loses its ending `extend` times and reads `wait_text`
instead. What is forced carries no loss. Every chain sees what a `sequential` thread sees; the root makes no
call. All is one causal token list, so this equals the published methods on an unmodified engine.

    call 0  chain 0  <solo> 37 10 9 4 2 <think>                       <try> 9 * 4 10 2 36 ...   (cut off)
    call 1  chain 0  <solo> 37 10 9 4 2 <think> <try> ... <answer>    9 * 4 10 / ... <eos>

With `extend: 1`, the ending of call 0 being dropped:

    call 0  chain 0  <solo> 37 10 9 4 2 <think>                       <try> ... <answer> 9 * 4 ... <eos>
    call 1  chain 0  <solo> 37 10 9 4 2 <think> <try> ... Wait        ... <answer> 9 * 4 10 / ... <eos>

In s1 the thinking has an end of its own, which is dropped; here an ending is the answer with what follows it.
Demonstrations: a chain answers by itself, and again after each wait.
"""

from typing import ClassVar, Literal

from pydantic import Field

from data.episodes.trajectory import Span, StopReason
from data.tasks.search_tree import SearchTree
from data.text.prompt import Prompt
from rollout.protocols.shared.base import (
    EOS,
    Action,
    Ask,
    Continue,
    ProtocolCard,
    ProtocolParams,
    Reading,
    Return,
    Role,
    ThreadResult,
    ThreadView,
    cut_off,
    whole,
)
from rollout.protocols.shared.chains import SOLO, ChainParams, Chains, Confidence, confidence, returned_by
from rollout.protocols.shared.tags import length
from rollout.protocols.shared.voting import vote


class BudgetForcingParams(ChainParams):
    """Recipe section of `budget_forcing`."""

    name: Literal["budget_forcing"]
    """Name of the protocol."""
    chains: int = Field(default=1, ge=1, le=65_536)
    """Number of chains; those beyond `budgets.width` do not run."""
    chain_tokens: int = Field(default=440, ge=0, le=10_000_000)
    """Most sampled tokens of one chain's thinking; 0 forces the answer at once."""
    answer_tokens: int = Field(default=32, ge=1, le=10_000_000)
    """Most sampled tokens of a forced answer."""
    extend: int = Field(default=0, ge=0, le=1_000)
    """Times that a chain's ending is dropped and `wait_text` put in its place."""
    wait_text: str = Field(default="Wait", min_length=1, max_length=1_000)
    """Text that prolongs a chain; a model from random weights has few words, but tags such as `<try>`."""
    vote: Literal["majority", "confidence"] = "majority"
    """Weight of a chain's answer: 1, or the mean probability of its tokens."""
    confidence: Confidence = "chain"
    """Tokens behind `vote: confidence`: the whole chain, or its answer alone."""


class BudgetForcing(Chains):
    """Chains with a forced end, forced continuations, or forced answers without thinking."""

    name: ClassVar[str] = "budget_forcing"
    params_class: ClassVar[type[ProtocolParams]] = BudgetForcingParams
    roles: ClassVar[dict[str, Role]] = {"chain": SOLO, "answer": SOLO}
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="budget forcing (s1, arXiv 2501.19393), NoThinking (arXiv 2504.09858)",
        child_context="the problem",
        join="vote; the root makes no call",
        exact="yes; what is dropped is the answer, where s1 drops an end of thinking",
        trained="all sampled, in every chain",
        barrier="ALL; FIRST_K or FIRST_SUCCESS by recipe",
    )

    _params: BudgetForcingParams

    @classmethod
    def words_of(cls, params: ProtocolParams) -> tuple[str, ...]:
        assert isinstance(params, BudgetForcingParams)
        return tuple(params.wait_text.split()) if params.extend else ()

    def on_call(self, thread: ThreadView) -> Action:
        reading = self._tags.read(thread.last)
        if thread.last.role == "answer":
            return self._forced_end(reading)
        left = self._params.chain_tokens - sum(len(call.output) for call in thread.calls)
        if thread.last.stop is StopReason.LENGTH:
            return self._force(thread, (whole(thread.last),))
        if len(thread.calls) <= self._params.extend and left > 0:
            gap = self._gap
            context = (*thread.last.context, *self._kept(reading), *self.forced(gap + self._params.wait_text))
            return Continue(ask=self._chain_ask(context, left))
        if self.answer.body(reading) or self.answer.gave_up(reading):
            return self.answer.end(reading)
        return self._force(thread, reading.whole())

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        answers = [self.given(result) for result in results]
        if self._params.vote == "majority":
            return returned_by(results, vote(answers))
        weights = [confidence(result, self._params.confidence) for result in results]
        return returned_by(results, vote(answers, weights))

    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        if self._params.chain_tokens == 0:
            return self.say(tree.solution or "", EOS)
        if call_number:
            return self.say(*self.answer.words(tree.solution), EOS)
        return super().teach(tree, path, call_number)

    def needed_length(self, prompt: Prompt) -> int:
        waits = (
            self._params.extend * length(self.forced(self._params.wait_text)) if self._params.extend else 0
        )
        end = length(self.forced(self.answer.opening)) + self._params.answer_tokens
        return super().needed_length(prompt) + waits + end

    def _chain(self, prompt: Prompt) -> Ask:
        if self._params.chain_tokens:
            return super()._chain(prompt)
        return self._answer_ask(self.frame("chain", prompt))

    @property
    def _gap(self) -> str:
        return "\n" if self.exact_text else ""

    def _kept(self, reading: Reading) -> tuple[Span, ...]:
        """What a chain has said up to its ending: its answer, or its giving up, is dropped."""
        ending = next((mark for mark in reading.marks if mark.tag in self.answer.tags), None)
        return reading.whole() if ending is None else reading.before(ending)

    def _force(self, thread: ThreadView, said: tuple[Span, ...]) -> Continue:
        return Continue(ask=self._answer_ask((*thread.last.context, *said)))

    def _answer_ask(self, context: tuple[Span, ...]) -> Ask:
        """The call that completes an answer which is begun for it."""
        return Ask(
            role="answer",
            context=(*context, *self.forced(self.answer.opening)),
            stops=self._tags.stops(),
            max_tokens=self._params.answer_tokens,
        )

    def _forced_end(self, reading: Reading) -> Return:
        """The end of a chain whose answer was begun for it."""
        if self.answer.tags and reading.call.stop is StopReason.LENGTH:
            return cut_off()
        return self.answer.completed(reading)
