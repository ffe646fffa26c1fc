"""Independent chains, and the one with the best score.

Source: best-of-N sampling; `judge: each` scores like a generative verifier (GenRM, arXiv 2408.15240), by the
probability of its verdict. Every chain sees what a `sequential` thread sees; the root makes a call only to
compare. Chains are independent samples of one context, so this equals the published method on an unmodified
engine. Only chains that gave an answer are candidates; of several with the same score the earliest wins.

`judge: compare`: the root names the best in one call that sees all candidates, numbered from 1:

    call 0  chain 0  <solo> 37 10 9 4 2 <think>                                ... <answer> 9 * 4 ... <eos>
    call 1  chain 1  <solo> 37 10 9 4 2 <think>                                ... <answer> 10 - 4 ... <eos>
    call 2  root     <judge> 37 10 9 4 2 <results> 1 : 9 * 4 ... <and> 2 : 10 - 4 ... <end> <think>
                                                                               ... <choice> 1 <eos>

`judge: knockout`: threads of the root compare pairs, `comparisons` each, and winners go on until one is left
(`rollout.protocols.selection.knockout`); a comparison that says nothing decides nothing:

    call 2  thread 4 <judge> 37 10 9 4 2 <results> 1 : 9 * 4 ... <and> 2 : 10 - 4 ... <end> <think>
                                                                               ... <choice> 2 <eos>

`judge: each`: every chain is judged in a second call of its own thread, with `<good>` or `<bad>`:

    call 1  chain 0  <judge> 37 10 9 4 2 <results> 1 : 9 * 4 ... <end> <think>          ... <good> <eos>

`scorer: reward_model`: every chain asks the recipe's `scorer` about itself as soon as it has answered; the
scores of its steps become one value by `aggregate`. `pick: vote` adds up the values of equal answers and
takes the answer with the largest sum (weighted self-consistency) instead of the best chain's.

Demonstrations: all answers are right, so the judge names the shortest chain and judges every chain good.
"""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from data.episodes.trajectory import Call, Span, StopReason, ThreadOutcome, ViolationKind
from data.steps.aggregates import AGGREGATES, Aggregate
from data.tasks.search_tree import SearchTree
from data.text.prompt import Prompt
from rollout.protocols.selection.knockout import next_field, pairs, shown, won
from rollout.protocols.shared.answers import ANSWER_TAGS
from rollout.protocols.shared.base import (
    EOS,
    Action,
    Ask,
    AskScorer,
    Continue,
    Encoder,
    Fork,
    ProtocolCard,
    ProtocolParams,
    Results,
    Return,
    Role,
    ThreadResult,
    ThreadView,
    cut_off,
    malformed,
)
from rollout.protocols.shared.chains import (
    SOLO,
    SOLO_TAGS,
    ChainParams,
    Chains,
    attempt_words,
    confidence,
    heard,
    returned_by,
)
from rollout.protocols.shared.voting import vote

Scorer = Callable[[ThreadResult], float]

_NUMBER = re.compile(r"[0-9]{1,6}")


def likelihood(result: ThreadResult) -> float:
    """Mean probability of the chain's tokens."""
    return confidence(result, "chain")


def brevity(result: ThreadResult) -> float:
    """Fewer sampled tokens are better."""
    return -sum(len(call.output) for call in result.calls)


def length(result: ThreadResult) -> float:
    """More sampled tokens are better."""
    return sum(len(call.output) for call in result.calls)


SCORERS: dict[str, Scorer] = {
    "confidence": likelihood,
    "shortest": brevity,
    "longest": length,
}
"""Scores of a chain that need no further call, by name."""


class BestOfNParams(ChainParams):
    """Recipe section of `best_of_n`."""

    name: Literal["best_of_n"]
    """Name of the protocol."""
    scorer: Literal["confidence", "shortest", "longest", "judge", "reward_model"] = "confidence"
    """Scorer: mean probability of a chain's tokens, its length, the model itself, the recipe's `scorer`."""
    aggregate: Aggregate = "last"
    """One value of a chain's steps with `scorer: reward_model` (`data.steps.aggregates`)."""
    pick: Literal["best", "vote"] = "best"
    """The answer of the best chain, or the one with the largest sum of its chains' values."""
    judge: Literal["compare", "each", "knockout"] = "compare"
    """Calls of `scorer: judge`: one that names the best, one for each candidate, or a tournament of pairs."""
    comparisons: int = Field(default=1, ge=1, le=65_536)
    """Calls that compare one pair with `judge: knockout`, in turns of its order."""
    judge_sees: Literal["answer", "chain"] = "answer"
    """Text of a candidate that the judge reads: its answer, or the whole chain."""
    judge_tokens: int = Field(default=32, ge=1, le=10_000_000)
    """Most sampled tokens of one call of the judge."""
    train: Literal["all", "chains", "judge"] = "all"
    """Threads whose tokens carry loss."""

    @property
    def takes_scorer(self) -> bool:
        return self.scorer == "reward_model"

    @model_validator(mode="after")
    def _votes_count(self) -> Self:
        compares = self.scorer == "judge" and self.judge != "each"
        if self.pick == "vote" and (compares or self.scorer in ("shortest", "longest")):
            raise ValueError("pick: vote needs values from 0 to 1: reward_model, confidence, or judge: each")
        return self


class BestOfN(Chains):
    """Independent chains, of which a scorer selects one."""

    name: ClassVar[str] = "best_of_n"
    params_class: ClassVar[type[ProtocolParams]] = BestOfNParams
    roles: ClassVar[dict[str, Role]] = {
        "chain": SOLO,
        "judge": Role(
            opens="<judge>",
            instruction="{problem}\n\nThese answers were proposed:\n\n{results:Answer}\n\nCheck them. If "
            "there are several, end with <choice> and the number of the best. If there is one, end with "
            "<good> if it is right, or with <bad> if it is wrong. Write nothing behind that.",
        ),
    }
    role_tags: ClassVar[tuple[str, ...]] = ("<solo>", "<think>", "<judge>", "<results>", "<and>", "<end>")
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="best of N; judge: GenRM (arXiv 2408.15240); knockout (arXiv 2411.19477); weighted vote",
        child_context="the problem; a judge: the problem and answers or chains",
        join="the chain that scores best; a weighted vote by recipe",
        exact="yes",
        trained="all sampled; by recipe only chains or only the judge",
        barrier="ALL; FIRST_K or FIRST_SUCCESS by recipe",
    )

    _params: BestOfNParams

    def __init__(self, params: ProtocolParams, encoder: Encoder, *, scorer: Scorer | None = None) -> None:
        """`scorer` replaces the recipe's scorer: a higher score is better. It gets candidates only."""
        super().__init__(params, encoder)
        own = self._value if self._params.takes_scorer else SCORERS.get(self._params.scorer)
        self._scorer = scorer or own

    @classmethod
    def tags_of(cls, params: ProtocolParams) -> tuple[str, ...]:
        if isinstance(params, BestOfNParams) and params.scorer == "reward_model":
            return SOLO_TAGS
        return (*SOLO_TAGS, "<judge>", "<results>", "<and>", "<end>", "<choice>", "<good>", "<bad>")

    @classmethod
    def words_of(cls, params: ProtocolParams) -> tuple[str, ...]:
        return (":",)

    @classmethod
    def endings(cls) -> tuple[str, ...]:
        return (*ANSWER_TAGS, "<choice>", "<good>", "<bad>")

    def on_call(self, thread: ThreadView) -> Action:
        if not thread.path:
            return self._chosen(thread)
        if thread.last.role == "judge" and len(thread.calls) == 1:
            return self._compared(thread)
        if len(thread.calls) > 1:
            return self._judged(thread)
        end = self.end(thread)
        if self._params.takes_scorer and end.value is not None:
            return AskScorer(calls=(thread.last.index,))
        if self._scorer is not None or self._params.judge != "each" or end.value is None:
            return end
        return Continue(ask=self._judge(thread.prompt, (self._seen(end.value, thread.last),)))

    def on_scores(self, thread: ThreadView) -> Action:
        return self.end(thread)

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        if self._scorer is None and self._params.judge == "knockout":
            return self._knockout(thread)
        candidates = self._candidates(results)
        scorer = self._scorer
        if scorer is None and self._params.judge == "compare":
            if len(candidates) < 2:
                return returned_by(candidates, 0 if candidates else None)
            shown = tuple(self._seen(result.value, result.calls[-1]) for result in candidates)
            return Continue(ask=self._judge(thread.prompt, shown))
        score = scorer or self._verdict
        if self._params.pick == "vote":
            answers = [self.given(candidate) for candidate in candidates]
            return returned_by(candidates, vote(answers, list(map(score, candidates))))
        best = max(range(len(candidates)), key=lambda index: score(candidates[index]), default=None)
        return returned_by(candidates, best)

    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        if path and path[0] < self._params.chains:
            return super().teach(tree, path, 0) if call_number == 0 else self.say("<good>", EOS)
        ran = heard(self._params, self._params.chains)
        sizes = [len(self.say(*attempt_words(tree, chain, self.answer))) for chain in range(ran)]
        if not path:
            return self.say("<choice>", str(sizes.index(min(sizes)) + 1), EOS)
        field, number = list(range(ran)), path[0] - self._params.chains
        while number >= (opened := self._params.comparisons * len(pairs(field))):
            # The shortest wins; of equals the first.
            field, number = next_field(field, lambda pair: min(pair, key=sizes.__getitem__)), number - opened
        place, comparison = divmod(number, self._params.comparisons)
        pair = pairs(field)[place]
        winner = min(pair, key=sizes.__getitem__)
        return self.say("<choice>", str(shown(pair, comparison).index(winner) + 1), EOS)

    def _chain_ask(self, context: tuple[Span, ...], max_tokens: int, trained: int | None = None) -> Ask:
        return super()._chain_ask(context, max_tokens, 0 if self._params.train == "judge" else trained)

    def _seen(self, answer: tuple[Span, ...] | None, chain: Call) -> tuple[Span, ...]:
        """Spans of a candidate that the judge reads."""
        assert answer is not None, "only chains with an answer are judged"
        return answer if self._params.judge_sees == "answer" else self._tags.read(chain).whole()

    def _judge(self, prompt: Prompt, candidates: tuple[tuple[Span, ...], ...]) -> Ask:
        names = tuple(str(number) for number in range(1, len(candidates) + 1))
        return Ask(
            role="judge",
            context=self.frame("judge", prompt, Results(items=candidates, names=names)),
            stops=self._tags.stops(),
            max_tokens=self._params.judge_tokens,
            trained=0 if self._params.train == "chains" else None,
        )

    def _knockout(self, thread: ThreadView) -> Action:
        """Play the rounds whose comparisons have come back; open those of the next."""
        candidates = self._candidates(thread.results[: self._params.chains])
        judged = thread.results[self._params.chains :]
        field, each = list(range(len(candidates))), self._params.comparisons
        while len(field) > 1:
            met = pairs(field)
            if not judged:
                asked = tuple(shown(pair, number) for pair in met for number in range(each))
                children = tuple(self._comparison(thread.prompt, candidates, pair) for pair in asked)
                return Fork(children=children)
            choices = list(map(self._choice, judged[: each * len(met)]))
            winners = {
                pair: won(pair, choices[place * each : (place + 1) * each]) for place, pair in enumerate(met)
            }
            field, judged = next_field(field, winners.__getitem__), judged[each * len(met) :]
        return returned_by(candidates, field[0] if field else None)

    def _comparison(self, prompt: Prompt, candidates: tuple[ThreadResult, ...], pair: tuple[int, int]) -> Ask:
        both = (candidates[index] for index in pair)
        return self._judge(prompt, tuple(self._seen(each.value, each.calls[-1]) for each in both))

    def _choice(self, result: ThreadResult) -> int | None:
        """Index of the one that a comparison chose; None where it says nothing."""
        if result.outcome is not ThreadOutcome.RETURNED:
            return None
        named = self._named(result.calls[-1], 2)
        return named if isinstance(named, int) else None

    def _compared(self, thread: ThreadView) -> Return:
        """The end of a thread that has compared two candidates."""
        named = self._named(thread.last, 2)
        return Return(outcome=ThreadOutcome.RETURNED, value=None) if isinstance(named, int) else named

    def _chosen(self, thread: ThreadView) -> Return:
        """The end of the root, with the answer that it has named."""
        candidates = self._candidates(thread.results)
        named = self._named(thread.last, len(candidates))
        return returned_by(candidates, named) if isinstance(named, int) else named

    def _named(self, call: Call, candidates: int) -> int | Return:
        """Read `... <choice> NUMBER <eos>`. -> the index of the candidate, or how the thread ends instead."""
        if call.stop is StopReason.LENGTH:
            return cut_off()
        reading = self._tags.read(call)
        choice = reading.last("<choice>")
        if choice is None or reading.ending != EOS:
            return malformed(ViolationKind.MALFORMED_ANSWER, reading.end, "ends without a choice")
        named = reading.text(choice, None).strip()
        if not _NUMBER.fullmatch(named) or not 1 <= int(named) <= candidates:
            detail = f"names {named[:20]!r} of {candidates} candidates"
            return malformed(ViolationKind.MALFORMED_ANSWER, choice.start, detail)
        return int(named) - 1

    def _judged(self, thread: ThreadView) -> Return:
        """Read `... <good> <eos>` or `... <bad> <eos>`; the thread returns the chain's answer."""
        if thread.last.stop is StopReason.LENGTH:
            return cut_off()
        reading = self._tags.read(thread.last)
        if reading.ending != EOS or not reading.all("<good>", "<bad>"):
            return malformed(ViolationKind.MALFORMED_RETURN, reading.end, "ends without a verdict")
        return self.end(replace(thread, calls=thread.calls[:1]))

    def _candidates(self, results: tuple[ThreadResult, ...]) -> tuple[ThreadResult, ...]:
        """Chains that gave an answer."""
        return tuple(result for result in results if self.given(result) is not None)

    def _value(self, result: ThreadResult) -> float:
        """What the recipe's scorer says of the chain."""
        return AGGREGATES[self._params.aggregate](result.scorings[-1].scores[0])

    def _verdict(self, result: ThreadResult) -> float:
        """Probability that the chain is good: P(`<good>`), or 1 - P(`<bad>`)."""
        judged = result.calls[-1]
        verdict = self._tags.read(judged).all("<good>", "<bad>")[-1]
        likely = math.exp(sum(judged.logprobs[verdict.start : verdict.stop]))
        return likely if verdict.tag == "<good>" else 1.0 - likely
