"""Rounds of drafts that read a message of the round before, and a last call that answers.

Sources, by options: PaCoRe (arXiv 2601.05593; the defaults), PDR (arXiv 2510.01123; `compaction: distil` or
`top`), SEAT (arXiv 2507.06829; `final: vote` with `stop_entropy` or `secretary`). A draft sees the problem
and the message of the round before, never the other drafts of its round; the message replaces the one before
it and is at most `kappa` ids long (`compaction`). Without a message the context is that of `sequential`.
With `widths: [1, 1, 1]` this is sequential refinement.

    call 0  draft 0  <solo> 37 10 9 4 2 <think>                                 ... <answer> 9 * 4 ... <eos>
    call 1  draft 1  <solo> 37 10 9 4 2 <think>                                 ... <answer> 10 - 4 ... <eos>
    call 2  root     <solo> 37 10 9 4 2 <results> 10 - 4 ... <and> 9 * 4 ... <end> <think>
                                                                                ... <answer> 9 * 4 ... <eos>

With `compaction: distil` the root writes the message itself, having read all drafts:

    call 2  root     <distil> 37 10 9 4 2 <results> ... <answer> 9 * 4 ... <and> ... <giveup> <end> <think>

Every call is one causal token list, so all three equal the published methods on an unmodified engine, in this
project's words. What differs: SEAT's constants are not published where we could read them, so `secretary` is
the classical rule (watch the first n / e of n rounds, stop at the first later one that is at least as good as
all before); equal answers are one meaning; the drafts are sampled with the learner's own weights, where
PaCoRe trains on a cached pool.

Demonstrations: a draft that sees an answer in its message repeats it; else it searches, each draft in an
order of its own.
"""

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from data.episodes.trajectory import Forced, Span, ThreadOutcome
from data.tasks.search_tree import SearchTree, rotated
from data.text.prompt import Prompt
from rollout.protocols.shared import compaction
from rollout.protocols.shared.answers import ANSWER_TAGS
from rollout.protocols.shared.base import (
    EOS,
    Action,
    Ask,
    Continue,
    Fork,
    ForkingParams,
    ProtocolCard,
    ProtocolParams,
    Results,
    Role,
    ThinkingProtocol,
    ThreadResult,
    ThreadView,
)
from rollout.protocols.shared.chains import SOLO, SOLO_TAGS, attempt_words, confidence, heard
from rollout.protocols.shared.compaction import Draft
from rollout.protocols.shared.spoken import ids_of
from rollout.protocols.shared.tags import length
from rollout.protocols.shared.voting import secretary_stops, semantic_entropy


class RoundsParams(ForkingParams):
    """Recipe section of `rounds`."""

    name: Literal["rounds"]
    """Name of the protocol."""
    widths: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = Field(default=(4,), min_length=1)
    """Drafts of each round; those beyond `budgets.width` do not run."""
    final: Literal["call", "vote"] = "call"
    """End after the last round: one more call that sees its message, or the majority of the drafts."""
    compaction: Literal["answers", "last_tokens", "top", "distil"] = "answers"
    """Content of a message: the drafts' answers; the end of every draft; the answers of the `top` most
    confident drafts; what a call distils from all drafts.
    """
    kappa: int = Field(default=64, ge=1, le=65_536)
    """Most ids of a message."""
    top: int = Field(default=2, ge=1, le=65_536)
    """Number of drafts with `compaction: top`."""
    draft_tokens: int = Field(default=440, ge=1, le=10_000_000)
    """Most sampled tokens of one draft."""
    final_tokens: int = Field(default=440, ge=1, le=10_000_000)
    """Most sampled tokens of the last call."""
    stop_entropy: float | None = Field(default=None, ge=0, le=100)
    """Semantic entropy (nats) of a round's answers at which the rounds stop with a vote; left out: never. A
    round of one draft stops nothing.
    """
    secretary: bool = False
    """Whether rounds stop by comparison with earlier rounds instead of a threshold."""
    trained: Literal["all", "synthesis"] = "all"
    """Calls with loss: all, or the last call alone, as PaCoRe trains."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.secretary and self.stop_entropy is not None:
            raise ValueError("secretary is a rule without a threshold: leave stop_entropy out")
        if self.trained == "synthesis" and self.final == "vote":
            raise ValueError(
                "trained: synthesis needs final: call; with final: vote nothing would be trained"
            )
        return self


class Rounds(ThinkingProtocol):
    """Rounds of drafts that read a message of the round before."""

    name: ClassVar[str] = "rounds"
    params_class: ClassVar[type[ProtocolParams]] = RoundsParams
    roles: ClassVar[dict[str, Role]] = {
        "draft": SOLO,
        "distil": Role(
            opens="<distil>",
            instruction="Original Problem:\n{problem}\n\nReference Responses:\n{results:Reference}\n\nSum "
            "up what is worth keeping of these responses, errors left out, for someone who will solve the "
            "problem anew.",
        ),
        "synthesis": Role(
            opens="<solo>",
            instruction="Original Problem:\n{problem}\n\nReference Responses:\n{results:Reference}\n\nThe "
            "responses may be wrong. Compare them, then solve the problem yourself. {answer}",
        ),
    }
    role_tags: ClassVar[tuple[str, ...]] = ("<solo>", "<think>", "<distil>", "<results>", "<end>")
    card: ClassVar[ProtocolCard] = ProtocolCard(
        source="PaCoRe (arXiv 2601.05593), PDR (arXiv 2510.01123), SEAT (arXiv 2507.06829)",
        child_context="the problem and the message of the round before",
        join="a message of bounded length replaces the one before; a last call or a vote",
        exact="yes; SEAT with the classical secretary rule",
        trained="all sampled; by recipe the last call alone (PaCoRe)",
        barrier="ALL; FIRST_K or FIRST_SUCCESS by recipe",
    )
    handles_needs: ClassVar[bool] = True

    _params: RoundsParams

    @classmethod
    def tags_of(cls, params: ProtocolParams) -> tuple[str, ...]:
        return (*SOLO_TAGS, "<results>", "<and>", "<end>", "<distil>")

    @classmethod
    def endings(cls) -> tuple[str, ...]:
        return ANSWER_TAGS

    def open(self, prompt: Prompt, tree: SearchTree | None = None) -> Fork:
        return self._drafts(prompt, 0, [])

    def on_call(self, thread: ThreadView) -> Action:
        reading = self._tags.read(thread.last)
        if thread.last.role == "distil":
            # A message that is cut off at the limit is still used: the limit bounds the message.
            message = reading.whole()
            return self._go_on(thread, [message] if message else [])
        return self.end(thread)

    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        last = thread.num_forks == len(self.widths)
        if self._stops(thread.results) or (last and self._params.final == "vote"):
            return self.most_voted(results)
        drafts = [self._draft(result) for result in results]
        drafts = [draft for draft in drafts if draft.ids]
        if self._params.compaction != "distil":
            return self._go_on(thread, self._message(drafts, thread.num_forks))
        parts = Results(items=tuple(draft.spans for draft in drafts))
        return Continue(
            ask=Ask(
                role="distil",
                context=self.frame("distil", thread.prompt, parts),
                stops=self._tags.stops(),
                max_tokens=self._params.kappa,
                trained=0 if self._params.trained == "synthesis" else None,
            )
        )

    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        widths = self.widths
        if path:
            ends = [sum(widths[: number + 1]) for number in range(len(widths))]
            number = next(number for number, end in enumerate(ends) if path[0] < end)
            return self.say(*self._imitated(tree, path[0], self._seen(tree, number)), EOS)
        if self._params.compaction == "distil" and call_number < len(widths):
            seen = self._seen(tree, call_number + 1)
            return self.say(*self.answer.words(seen), EOS)
        return self.say(*self._imitated(tree, sum(widths), self._seen(tree, len(widths))), EOS)

    def needed_length(self, prompt: Prompt) -> int:
        params = self._params
        bare = length(self._context(prompt, ()))
        told = length(self._context(prompt, None)) + params.kappa
        draft = (told if len(self.widths) > 1 else bare) + params.draft_tokens
        return max(draft, told + params.final_tokens if params.final == "call" else 0)

    @property
    def widths(self) -> tuple[int, ...]:
        """Drafts opened in each round; more than may run would count as a violation of the model."""
        return tuple(min(width, self._params.budgets.width) for width in self._params.widths)

    def _context(self, prompt: Prompt, message: "Message | None") -> tuple[Span, ...]:
        """What a draft or the last call sees: the problem, and a message unless it is empty."""
        if message is None or message:
            return self.frame("synthesis", prompt, Results(items=tuple(message or ())))
        return self.frame("draft", prompt)

    def _drafts(self, prompt: Prompt, number: int, message: "Message") -> Fork:
        """The fork of round `number`, counted from 0."""
        draft = Ask(
            role="draft",
            context=self._context(prompt, message),
            stops=self._tags.stops(),
            max_tokens=self._params.draft_tokens,
            trained=0 if self._params.trained == "synthesis" else None,
        )
        return Fork(children=(draft,) * self.widths[number], barrier=self.barrier())

    def _go_on(self, thread: ThreadView, message: "Message") -> Action:
        """The next round, or the last call."""
        if thread.num_forks < len(self.widths):
            return self._drafts(thread.prompt, thread.num_forks, message)
        return Continue(
            ask=Ask(
                role="synthesis",
                context=self._context(thread.prompt, message),
                stops=self._tags.stops(),
                max_tokens=self._params.final_tokens,
            )
        )

    def _draft(self, result: ThreadResult) -> Draft:
        """Contribution of a draft: its answer, or its whole text; () when it has none and no notice."""
        spans: tuple[Span, ...] = ()
        if self._params.compaction in ("last_tokens", "distil"):
            spans = tuple(span for call in result.calls for span in self._tags.read(call).whole())
        if result.value is None or not spans:
            spans = self.result_text(result, otherwise=spans)
        ids = ids_of(spans, result.calls)
        return Draft(spans=spans, ids=ids, confidence=confidence(result, "chain"))

    def _message(self, drafts: list[Draft], number: int) -> "Message":
        """Message of round `number`, counted from 1, to the next."""
        params, gap = self._params, len(self._tags.ids("<and>"))
        if params.compaction == "answers":
            return compaction.answers(drafts, params.kappa, gap, number)
        if params.compaction == "top":
            return compaction.top(drafts, params.kappa, gap, params.top)
        return compaction.last_tokens(drafts, params.kappa, gap)

    def _stops(self, results: tuple[ThreadResult, ...]) -> bool:
        """Whether the round that has just ended is the last. `results`: of all rounds so far."""
        params, begin = self._params, 0
        entropies: list[float] = []
        for width in self.widths:
            if begin < len(results):
                entropies.append(self._entropy(results[begin : begin + width]))
            begin += width
        if params.stop_entropy is not None:
            return entropies[-1] <= params.stop_entropy
        return params.secretary and secretary_stops(entropies, len(self.widths))

    def _entropy(self, drafts: tuple[ThreadResult, ...]) -> float:
        """Semantic entropy of a round in nats; infinite when fewer than two drafts ran to their end, or none
        gave an answer.
        """
        ended = [draft for draft in drafts if draft.calls and draft.outcome is not ThreadOutcome.CANCELLED]
        answers = [self.given(draft) for draft in ended]
        return semantic_entropy(answers) if len(answers) > 1 and any(answers) else math.inf

    def _seen(self, tree: SearchTree, number: int) -> str | None:
        """An answer that the message before round `number` shows to an imitator, if it shows one."""
        if number == 0 or tree.solution is None:
            return None
        before = self._seen(tree, number - 1)
        begin = sum(self.widths[: number - 1])
        found: list[str] = []
        drafts: list[Draft] = []
        for attempt in range(begin, begin + heard(self._params, self.widths[number - 1])):
            solution = rotated(tree, attempt).solution if before is None else before
            if solution is not None:
                whole = self._params.compaction == "last_tokens"
                ids = self.say(*(self._imitated(tree, attempt, before) if whole else (solution,)))
                drafts.append(Draft(spans=(Forced(ids=ids),), ids=ids))
                found.append(solution)
        if self._params.compaction == "distil":
            return found[0] if found else None
        message = [ids_of(part, ()) for part in self._message(drafts, number)]
        return next((each for each in found if any(_holds(part, self.say(each)) for part in message)), None)

    def _imitated(self, tree: SearchTree, attempt: int, seen: str | None) -> tuple[str, ...]:
        """Text of an imitator that has seen an answer, or has not."""
        if seen is not None:
            return self.answer.words(seen)
        return tuple(attempt_words(tree, attempt, self.answer))


Message = Sequence[tuple[Span, ...]]
"""Parts of a message, one of each draft that is in it."""


def _holds(ids: tuple[int, ...], part: tuple[int, ...]) -> bool:
    """Whether `part` occurs in `ids`."""
    return any(ids[start : start + len(part)] == part for start in range(len(ids) - len(part) + 1))
