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

`judge: each`: every chain is judged in a second call of its own thread, with `<good>` or `<bad>`:

    call 1  chain 0  <judge> 37 10 9 4 2 <results> 1 : 9 * 4 ... <end> <think>          ... <good> <eos>

Demonstrations: all answers are right, so the judge names the shortest chain and judges every chain good.
"""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from data.episodes.trajectory import Call, Span, StopReason, ViolationKind
from data.tasks.search_tree import SearchTree
from data.text.prompt import Prompt
from rollout.protocols.shared.answers import ANSWER_TAGS
from rollout.protocols.shared.base import (
    EOS,
    Action,
    Ask,
    Continue,
    Encoder,
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
    scorer: Literal["confidence", "shortest", "longest", "judge"] = "confidence"
    """Scorer: mean probability of a chain's tokens, its length, or the model itself."""
    judge: Literal["compare", "each"] = "compare"
    """Calls of `scorer: judge`: one call that names the best, or one call for every candidate."""
    judge_sees: Literal["answer", "chain"] = "answer"
    """Text of a candidate that the judge reads: its answer, or the whole chain."""
    judge_tokens: int = Field(default=32, ge=1, le=10_000_000)
    """Most sampled tokens of one call of the judge."""
    train: Literal["all", "chains", "judge"] = "all"
    """Threads whose tokens carry loss."""


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
        source="best of N; judge: GenRM (arXiv 2408.15240)",
        child_context="the problem; a judge: the problem and answers or chains",
        join="the chain that scores best",
        exact="yes",
        trained="all sampled; by recipe only chains or only the judge",
        barrier="ALL; FIRST_K or FIRST_SUCCESS by recipe",
    )

    _params: BestOfNParams

    def __init__(self, params: ProtocolParams, encoder: Encoder, *, scorer: Scorer | None = None) -> None:
        """`scorer` replaces the recipe's scorer: a higher score is better. It gets candidates only."""
        super().__init__(params, encoder)
        self._scorer = scorer or SCORERS.get(self._params.scorer)

    @classmethod
    def tags_of(cls, params: ProtocolParams) -> tuple[str, ...]:
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
        if len(thread.calls) > 1:
            return self._judged(thread)
        end = self.end(thread)
        if self._scorer is not None or self._params.judge != "each" or end.value is None:
            return end
        return Continue(ask=self._judge(thread.prompt, (self._seen(end.value, thread.last),)))

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        candidates = self._candidates(results)
        scorer = self._scorer
        if scorer is None and self._params.judge == "compare":
            if len(candidates) < 2:
                return returned_by(candidates, 0 if candidates else None)
            shown = tuple(self._seen(result.value, result.calls[-1]) for result in candidates)
            return Continue(ask=self._judge(thread.prompt, shown))
        score = scorer or self._verdict
        best = max(range(len(candidates)), key=lambda index: score(candidates[index]), default=None)
        return returned_by(candidates, best)

    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        if path and call_number == 0:
            return super().teach(tree, path, 0)
        if path:
            return self.say("<good>", EOS)
        ran = heard(self._params, self._params.chains)
        sizes = [len(self.say(*attempt_words(tree, chain, self.answer))) for chain in range(ran)]
        return self.say("<choice>", str(sizes.index(min(sizes)) + 1), EOS)

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

    def _chosen(self, thread: ThreadView) -> Return:
        """Read `... <choice> NUMBER <eos>`."""
        if thread.last.stop is StopReason.LENGTH:
            return cut_off()
        reading = self._tags.read(thread.last)
        choice = reading.last("<choice>")
        if choice is None or reading.ending != EOS:
            return malformed(ViolationKind.MALFORMED_ANSWER, reading.end, "ends without a choice")
        candidates = self._candidates(thread.results)
        named = reading.text(choice, None).strip()
        if not _NUMBER.fullmatch(named) or not 1 <= int(named) <= len(candidates):
            detail = f"names {named[:20]!r} of {len(candidates)} candidates"
            return malformed(ViolationKind.MALFORMED_ANSWER, choice.start, detail)
        return returned_by(candidates, int(named) - 1)

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

    def _verdict(self, result: ThreadResult) -> float:
        """Probability that the chain is good: P(`<good>`), or 1 - P(`<bad>`)."""
        judged = result.calls[-1]
        verdict = self._tags.read(judged).all("<good>", "<bad>")[-1]
        likely = math.exp(sum(judged.logprobs[verdict.start : verdict.stop]))
        return likely if verdict.tag == "<good>" else 1.0 - likely
