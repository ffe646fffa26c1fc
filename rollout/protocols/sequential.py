"""One thread: the whole search, one branch after the other.

Source: the sequential baseline of APR (arXiv 2504.15466, "SoS+"). There are no children and no joins; one
call is the whole episode, so it equals the published method on an unmodified engine. The search is
written with this project's words for it, not the paper's.

    <solo> 37 10 9 4 2 <think>   <try> 9 * 4 10 2 36 ... <try> ... <answer> 9 * 4 10 / ... <eos>  (or
    <giveup> <eos>)
"""

from typing import ClassVar, Literal

from pydantic import Field

from data.tasks.search_tree import SearchTree
from data.text.prompt import Prompt
from rollout.protocols.shared.answers import ANSWER_TAGS
from rollout.protocols.shared.base import (
    EOS,
    Action,
    Ask,
    Continue,
    ProtocolCard,
    ProtocolParams,
    Role,
    ThinkingProtocol,
    ThreadResult,
    ThreadView,
)
from rollout.protocols.shared.search_text import solo_words
from rollout.protocols.shared.tags import length


class SequentialParams(ProtocolParams):
    """Recipe section of `sequential`."""

    name: Literal["sequential"]
    """Name of the protocol."""
    max_tokens: int = Field(default=440, ge=1, le=10_000_000)
    """Sampled tokens of the episode."""

    @property
    def forks_at(self) -> tuple[str, ...]:
        return ()


class Sequential(ThinkingProtocol):
    """One thread and one call: a plain chain of thought."""

    name: ClassVar[str] = "sequential"
    params_class: ClassVar[type[ProtocolParams]] = SequentialParams
    roles: ClassVar[dict[str, Role]] = {
        "solo": Role(opens="<solo>", instruction="{problem}\n\nThink step by step. {answer}")
    }
    role_tags: ClassVar[tuple[str, ...]] = ("<solo>", "<think>")
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="SoS+, the baseline of APR (arXiv 2504.15466)",
        child_context="no children",
        join="none",
        exact="yes",
        trained="all sampled",
        barrier="none",
    )
    handles_needs: ClassVar[bool] = True

    _params: SequentialParams

    @classmethod
    def tags_of(cls, params: ProtocolParams) -> tuple[str, ...]:
        return ("<solo>", "<think>", "<try>", *ANSWER_TAGS)

    @classmethod
    def endings(cls) -> tuple[str, ...]:
        return ANSWER_TAGS

    def open(self, prompt: Prompt, tree: SearchTree | None = None) -> Continue:
        context = self.frame("solo", prompt)
        stops = self._tags.stops()
        return Continue(
            ask=Ask(role="solo", context=context, stops=stops, max_tokens=self._params.max_tokens)
        )

    def on_call(self, thread: ThreadView) -> Action:
        return self.end(thread)

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        raise AssertionError("a sequential episode never forks")

    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        return self.say(*solo_words(tree, self.answer), EOS)

    def needed_length(self, prompt: Prompt) -> int:
        return length(self.frame("solo", prompt)) + self._params.max_tokens
