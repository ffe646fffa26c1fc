"""Base of protocols of independent chains: each chain sees the problem and writes a whole search.

A chain is what `sequential` does, in the same format, so a model that was trained on `sequential`
demonstrations can be used. The root opens the chains before its first call:

    call k  chain k  <solo> 37 10 9 4 2 <think>   <try> 9 * 4 10 2 36 ... <answer> 9 * 4 10 / ... <eos>

Demonstrations: chain k begins at another alternative of the search than chain k - 1; of parts there is one
order, so every chain shows the same.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from data.episodes.trajectory import Span, ThreadOutcome
from data.tasks.search_tree import SearchTree, rotated
from data.text.prompt import Prompt
from rollout.protocols.shared.answers import ANSWER_TAGS, AnswerFormat
from rollout.protocols.shared.base import (
    EOS,
    Action,
    Ask,
    Barrier,
    Fork,
    ForkingParams,
    ProtocolParams,
    Return,
    Role,
    ThinkingProtocol,
    ThreadResult,
    ThreadView,
)
from rollout.protocols.shared.search_text import solo_words
from rollout.protocols.shared.spoken import logprobs_of
from rollout.protocols.shared.tags import length
from rollout.protocols.shared.voting import mean_probability

SOLO_TAGS = ("<solo>", "<think>", "<try>", *ANSWER_TAGS)

SOLO = Role(opens="<solo>", instruction="{problem}\n\nThink step by step. {answer}")
"""Layout of a thread that solves the whole problem on its own."""

Confidence = Literal["chain", "answer"]


class ChainParams(ForkingParams):
    """Recipe section of a protocol of independent chains."""

    chains: int = Field(default=4, ge=1, le=65_536)
    """Number of chains; those beyond `budgets.width` do not run."""
    chain_tokens: int = Field(default=440, ge=1, le=10_000_000)
    """Most sampled tokens of one chain."""


class Chains(ThinkingProtocol):
    """Base class that opens the chains; the subclass's `on_join` decides on the answer."""

    handles_needs: ClassVar[bool] = True

    role_tags: ClassVar[tuple[str, ...]] = ("<solo>", "<think>")

    _params: ChainParams

    @classmethod
    def tags_of(cls, params: ProtocolParams) -> tuple[str, ...]:
        return SOLO_TAGS

    @classmethod
    def endings(cls) -> tuple[str, ...]:
        return ANSWER_TAGS

    def open(self, prompt: Prompt, tree: SearchTree | None = None) -> Fork:
        return Fork(children=(self._chain(prompt),) * self._params.chains, barrier=self._chains_barrier())

    def on_call(self, thread: ThreadView) -> Action:
        return self.end(thread)

    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        return self.say(*attempt_words(tree, path[0], self.answer), EOS)

    def needed_length(self, prompt: Prompt) -> int:
        return length(self.frame("chain", prompt)) + self._params.chain_tokens

    def _chains_barrier(self) -> Barrier:
        return self.barrier()

    def _chain(self, prompt: Prompt) -> Ask:
        """A chain's first call."""
        return self._chain_ask(self.frame("chain", prompt), self._params.chain_tokens)

    def _chain_ask(self, context: tuple[Span, ...], max_tokens: int, trained: int | None = None) -> Ask:
        return Ask(
            role="chain", context=context, stops=self._tags.stops(), max_tokens=max_tokens, trained=trained
        )


def attempt_words(tree: SearchTree, number: int, answer: AnswerFormat) -> Iterator[str]:
    """A whole search as the `number`-th independent attempt writes it."""
    return solo_words(rotated(tree, number), answer)


def heard(params: ForkingParams, opened: int) -> int:
    """Number of threads of one fork that a demonstration shows when all find an answer."""
    ran = min(opened, params.budgets.width)
    return ran if params.wait == "all" else min(ran, params.wait_for)


def confidence(result: ThreadResult, of: Confidence) -> float:
    """Mean probability of a thread's sampled tokens, or of its answer's alone."""
    if of == "answer":
        return mean_probability(logprobs_of(result.value or (), result.calls))
    return mean_probability([logprob for call in result.calls for logprob in call.logprobs])


def returned_by(results: tuple[ThreadResult, ...], winner: int | None) -> Return:
    """End of the root with the answer of one thread, or none."""
    value = None if winner is None else results[winner].value
    return Return(outcome=ThreadOutcome.RETURNED, value=value, success=value is not None)
