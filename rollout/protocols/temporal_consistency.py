"""Judges that check their own last verdict, round after round, until the verdicts no longer change.

Source: temporal consistency (arXiv 2503.14495), there for the first wrong step of a solution, which is what
task `judge` asks; here for every task, an answer being the verdict. In the first round `chains` judges answer
on their own. In each later one every judge sees the problem and its own last judgement, never another's, and
answers again. It ends when the majority has been the same for `agree` rounds and did not crumble
(`rollout.protocols.selection.temporal_consistency`), at the latest after `rounds`; the answer is the majority
of the last round. With `chains: 1` this is plain self-verification until `agree` verdicts agree.

    call 0  thread 0  <solo> 37 10 <think>                                        1 <answer> 5 <eos>
    call 1  thread 1  <solo> 37 10 <results> 1 <answer> 5 <end> <think>           2 <answer> 6 <eos>
    call 2  thread 2  <solo> 37 10 <results> 2 <answer> 6 <end> <think>           3 <answer> 6 <eos>

A judge that gave no verdict in a round goes on from its last one, or begins anew if it never gave any. The
published code does not count the first judgement among the rounds, here it counts.

Demonstrations: a judge searches in an order of its own, and repeats the answer that it sees.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from data.episodes.trajectory import Span
from data.tasks.search_tree import SearchTree, rotated
from data.text.prompt import Prompt
from rollout.protocols.selection.temporal_consistency import at_rest
from rollout.protocols.shared.base import (
    EOS,
    Action,
    Ask,
    Fork,
    ProtocolCard,
    ProtocolParams,
    Results,
    Return,
    Role,
    ThreadResult,
    ThreadView,
)
from rollout.protocols.shared.chains import SOLO, SOLO_TAGS, ChainParams, Chains, attempt_words, heard
from rollout.protocols.shared.tags import length


class TemporalConsistencyParams(ChainParams):
    """Recipe section of `temporal_consistency`."""

    name: Literal["temporal_consistency"]
    """Name of the protocol."""
    chains: int = Field(default=5, ge=1, le=65_536)
    """Number of judges; those beyond `budgets.width` do not run."""
    rounds: int = Field(default=10, ge=1, le=65_536)
    """Most rounds, the first judgement among them."""
    agree: int = Field(default=3, ge=2, le=65_536)
    """Rounds in a row with the same majority that end the episode."""
    growing: bool = True
    """Whether the share of the majority must besides not fall in those rounds."""
    sees: Literal["chain", "answer"] = "chain"
    """What a judge sees of its last judgement: all that it wrote, or the verdict alone."""

    @model_validator(mode="after")
    def _can_agree(self) -> Self:
        if self.agree > self.rounds:
            raise ValueError(f"agree: {self.agree} is never reached in {self.rounds} rounds: raise rounds")
        return self


class TemporalConsistency(Chains):
    """Rounds in which every judge checks its own last verdict."""

    name: ClassVar[str] = "temporal_consistency"
    params_class: ClassVar[type[ProtocolParams]] = TemporalConsistencyParams
    roles: ClassVar[dict[str, Role]] = {
        "chain": SOLO,
        "check": Role(
            opens="<solo>",
            instruction="{problem}\n\nYou have said to this:\n\n{results:Answer}\n\nThat may be wrong. Check "
            "every part of it as if it were another's, then answer again; the same if it holds. {answer}",
        ),
    }
    role_tags: ClassVar[tuple[str, ...]] = ("<solo>", "<think>", "<results>", "<end>")
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="temporal consistency (arXiv 2503.14495)",
        child_context="the problem; from the second round on with its own last judgement",
        join="vote of the last round; the root makes no call",
        exact="yes; the first judgement counts as a round",
        trained="all sampled, in every judgement",
        barrier="ALL, once a round; FIRST_K or FIRST_SUCCESS by recipe",
    )

    _params: TemporalConsistencyParams

    @classmethod
    def tags_of(cls, params: ProtocolParams) -> tuple[str, ...]:
        return (*SOLO_TAGS, "<results>", "<end>")

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        rounds = self._rounds(thread.results)
        verdicts = [[self.given(judged) for judged in each] for each in rounds]
        # Where no judge made a call, a budget is used up, and another round would not run either.
        ran = any(result.calls for result in results)
        rest = at_rest(verdicts, self._params.agree, growing=self._params.growing)
        if rest or not ran or len(rounds) >= self._params.rounds:
            return self._conclude(rounds)
        judges = range(self._params.chains)
        return Fork(
            children=tuple(self._again(thread.prompt, rounds, judge) for judge in judges),
            barrier=self._chains_barrier(),
        )

    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        number, judge = divmod(path[0], self._params.chains)
        solution = rotated(tree, judge).solution
        # Those whose call was cancelled, or who gave up, have seen no verdict of their own.
        seen = number > 0 and judge < heard(self._params, self._params.chains) and solution is not None
        words = self.answer.words(solution) if seen else attempt_words(tree, judge, self.answer)
        return self.say(*words, EOS)

    def needed_length(self, prompt: Prompt) -> int:
        told = length(self.frame("check", prompt, Results(items=()))) + self._params.chain_tokens
        bare = length(self.frame("chain", prompt))
        return (max(bare, told) if self._params.rounds > 1 else bare) + self._params.chain_tokens

    def _rounds(self, results: Sequence[ThreadResult]) -> list[tuple[ThreadResult, ...]]:
        """[rounds][judges] all judgements so far."""
        chains = self._params.chains
        return [tuple(results[start : start + chains]) for start in range(0, len(results), chains)]

    def _again(self, prompt: Prompt, rounds: Sequence[Sequence[ThreadResult]], judge: int) -> Ask:
        """The next call of a judge, which sees its last verdict, or begins anew when it has none."""
        said = [each[judge] for each in rounds if self.given(each[judge]) is not None]
        if not said:
            return self._chain(prompt)
        return Ask(
            role="check",
            context=self.frame("check", prompt, Results(items=(self._seen(said[-1]),))),
            stops=self._tags.stops(),
            max_tokens=self._params.chain_tokens,
        )

    def _seen(self, judged: ThreadResult) -> tuple[Span, ...]:
        """What a judge sees of its last judgement."""
        assert judged.value is not None, "only what has a verdict is shown"
        if self._params.sees == "answer":
            return judged.value
        return self._tags.read(judged.calls[-1]).whole()

    def _conclude(self, rounds: Sequence[tuple[ThreadResult, ...]]) -> Return:
        """End with the majority of the last round in which there was any verdict."""
        spoken = [each for each in rounds if any(self.given(judged) is not None for judged in each)]
        return self.most_voted(spoken[-1] if spoken else ())
