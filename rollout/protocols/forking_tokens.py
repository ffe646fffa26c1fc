"""The first token decides how a chain thinks: reserved tags, one for every way of thinking.

Source: Global Forking Tokens (SSFT) and GFPO (arXiv 2510.05132). A chain's context is the problem with a
reserved tag in the place of `<think>`; what follows is a chain as in `sequential`. Chains see nothing of each
other, and the answer is the one that most give (Cons@k). Equals the published method on an unmodified
engine; tags are this project's words by default (`tags` takes the published `<think1>` ... just as well). In
a demonstration attempt k has tag k; with `match_tags` a supervised stage lets the model pair them, as SSFT.

`mode: each` opens one chain for every tag, the tag forced:

    call 0  chain 0  <solo> 37 10 9 4 2 <fork1>   <try> 9 * 4 ... <answer> 9 * 4 10 / ... <eos>
    call 1  chain 1  <solo> 37 10 9 4 2 <fork2>   <try> 10 - 4 ... <giveup> <eos>

`mode: sampled` opens `chains`, and each samples its tag itself; another first token is a violation. With
`trained: first` only that tag carries loss, as GFPO trains; the chain serves to find the reward.

    call 0  chain 0  <solo> 37 10 9 4 2           <fork2> <try> 10 - 4 ... <answer> ... <eos>

Demonstrations: the chain with tag k is attempt k at the search; a chain that chooses begins at a tag that the
search itself decides, so that all tags are shown.
"""

import zlib
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from data.episodes.trajectory import ViolationKind
from data.tasks.search_tree import SearchTree
from data.text.prompt import Prompt
from rollout.protocols.shared.base import (
    EOS,
    Action,
    Ask,
    Fork,
    ProtocolCard,
    ProtocolParams,
    Role,
    ThreadResult,
    ThreadView,
    malformed,
)
from rollout.protocols.shared.chains import SOLO, SOLO_TAGS, ChainParams, Chains, attempt_words


class ForkingTokensParams(ChainParams):
    """Recipe section of `forking_tokens`."""

    name: Literal["forking_tokens"]
    """Name of the protocol."""
    tags: tuple[Annotated[str, StringConstraints(pattern=r"^\S+$")], ...] = Field(
        default=("<fork1>", "<fork2>", "<fork3>", "<fork4>", "<fork5>", "<fork6>"), min_length=1
    )
    """Reserved tags, single words; a tokenizer that splits digits needs words without digits."""
    mode: Literal["each", "sampled"] = "each"
    """Choice of tags: `each` opens one chain for every tag, `sampled` opens `chains` chains that sample their
    tags.
    """
    chains: int = Field(default=1, ge=1, le=65_536)
    """Number of chains with `mode: sampled`; those beyond `budgets.width` do not run."""
    trained: Literal["all", "first"] = "all"
    """Tokens with loss under `mode: sampled`: the whole chain, or its tag alone."""

    has_forking_tags: ClassVar[bool] = True

    @property
    def forces_forking_tags(self) -> bool:
        return self.mode == "each"

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if len({*self.tags, *SOLO_TAGS}) < len(self.tags) + len(SOLO_TAGS):
            raise ValueError(f"tags must differ from each other and from {' '.join(SOLO_TAGS)}")
        if self.trained == "first" and self.mode == "each":
            raise ValueError("trained: first needs mode: sampled; with mode: each no tag is sampled")
        return self


class ForkingTokens(Chains):
    """Chains that begin with different reserved tags."""

    name: ClassVar[str] = "forking_tokens"
    params_class: ClassVar[type[ProtocolParams]] = ForkingTokensParams
    roles: ClassVar[dict[str, Role]] = {"chain": SOLO}
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="SSFT and GFPO (arXiv 2510.05132)",
        child_context="the problem, and its tag unless the child chooses one",
        join="vote; the root makes no call",
        exact="yes; tags and traces are matched in order, or by their losses (`match_tags`)",
        trained="all sampled; by recipe the sampled tag alone (GFPO)",
        barrier="ALL; FIRST_K or FIRST_SUCCESS by recipe",
    )

    _params: ForkingTokensParams

    @classmethod
    def tags_of(cls, params: ProtocolParams) -> tuple[str, ...]:
        assert isinstance(params, ForkingTokensParams)
        return (*SOLO_TAGS, *params.tags)

    def open(self, prompt: Prompt, tree: SearchTree | None = None) -> Fork:
        if self._params.mode == "sampled":
            return super().open(prompt, tree)
        return Fork(
            children=tuple(
                self._chain_ask(self.frame("chain", prompt, begin=tag), self._params.chain_tokens)
                for tag in self._params.tags
            ),
            barrier=self.barrier(),
        )

    def on_call(self, thread: ThreadView) -> Action:
        if self._params.mode == "each":
            return self.end(thread)
        reading = self._tags.read(thread.last)
        first = reading.marks[0] if reading.marks else None
        if first is None or first.start > 0 or first.head.strip() or first.tag not in self._params.tags:
            return malformed(ViolationKind.UNEXPECTED_TOKEN, 0, "begins without one of the forking tags")
        return self.end(thread)

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        return self.most_voted(results)

    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        if self._params.mode == "each":
            return super().teach(tree, path, call_number)
        tag = (_spread(tree) + path[0]) % len(self._params.tags)
        return self.say(self._params.tags[tag], *attempt_words(tree, tag, self.answer), EOS)

    def _chain(self, prompt: Prompt) -> Ask:
        """The first call of a chain that chooses its tag."""
        # A reserved tag is one token; one that is ordinary text is trained as far as it may reach.
        tag = max(len(self._tags.ids(tag)) for tag in self._params.tags)
        trained = tag if self._params.trained == "first" else None
        return self._chain_ask(self.frame("chain", prompt, begin=""), self._params.chain_tokens, trained)


def _spread(tree: SearchTree) -> int:
    """Number that differs from search to search."""
    return zlib.crc32(" ".join([child.message for child in tree.children] or [tree.conclusion]).encode())
