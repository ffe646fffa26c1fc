"""Interface of a protocol: pure functions from sampled output to the next action. No engine, no asyncio.

The same object is used five times: `teach` builds demonstrations; `on_call` and `on_join` drive rollouts,
evaluation and serving; `Ask.trained` selects the trained tokens. `rollout.machine` keeps the state (call DAG,
barriers, budgets), so a protocol is only the rules of one published method.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from data.episodes.trajectory import Call, Forced, Scoring, Span, StopReason, ThreadOutcome
from data.errors import TrajectoryError
from data.tasks.search_tree import SearchTree
from data.text.normalise import NORMALISERS
from data.text.prompt import Prompt
from rollout.protocols.shared.actions import (
    Action,
    Ask,
    AskScorer,
    Await,
    Continue,
    Fork,
    Note,
    Return,
    cut_off,
    malformed,
    whole,
)
from rollout.protocols.shared.answers import ANSWER_TAGS, RESULT_TAGS, AnswerFormat, ResultFormat
from rollout.protocols.shared.barrier import Barrier, BarrierKind, Decision, ThreadResult
from rollout.protocols.shared.flat_text import SaidCall, TextCursor
from rollout.protocols.shared.framing import (
    Framing,
    Layout,
    Part,
    Results,
    Role,
    TagFraming,
    WordFraming,
    framing_of,
)
from rollout.protocols.shared.framing_params import FramingKind, TagFramingConfig
from rollout.protocols.shared.params import Budgets, ForkingParams, ProtocolParams
from rollout.protocols.shared.tags import EOS, Encoder, Mark, Reading, Stops, Tags
from rollout.protocols.shared.voting import Answer, vote

__all__ = [
    "EOS",
    "Action",
    "Ask",
    "AskScorer",
    "Await",
    "Barrier",
    "BarrierKind",
    "Budgets",
    "Continue",
    "Decision",
    "Encoder",
    "Fork",
    "ForkingParams",
    "Layout",
    "Mark",
    "Note",
    "ProtocolCard",
    "ProtocolParams",
    "Reading",
    "Results",
    "Return",
    "Role",
    "Stops",
    "Tags",
    "ThinkingProtocol",
    "ThreadResult",
    "ThreadView",
    "cut_off",
    "malformed",
    "whole",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadView:
    """The state of a thread that a protocol may use."""

    path: tuple[int, ...]
    """Keys from the root: () is the root, (2,) its third child."""
    prompt: Prompt
    """The problem of the episode, as text."""
    calls: tuple[Call, ...]
    """Finished calls of the thread, in order; the last one has just come back."""
    num_forks: int
    """Number of forks of the thread."""
    name: str
    memo: int
    task: tuple[Span, ...]
    """`name`, `memo` and `task` of the thread's first call."""
    opened: tuple[str, ...]
    """Names of all threads it has opened, in order."""
    joined: tuple[str, ...]
    """Names of the threads it has joined."""
    results: tuple[ThreadResult, ...]
    """Results of the joined threads, in the order of the joins."""
    said: tuple[Call, ...] = ()
    """`said` of the thread's first call."""
    scorings: tuple[Scoring, ...] = ()
    """Answered questions to the scorer, in order."""

    @property
    def last(self) -> Call:
        return self.calls[-1]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProtocolCard:
    """One row of the documentation's table of protocols, which is generated from these."""

    source: str
    child_context: str
    join: str
    exact: str
    """Whether it equals the published method on an unmodified engine; if not, the difference."""
    trained: str
    barrier: str


_HOLE = re.compile(r"\{(answer|result|width|depth)\}")


class ThinkingProtocol(ABC):
    """Base class of all protocols. Subclasses are stateless: they depend on their arguments only."""

    name: ClassVar[str]
    params_class: ClassVar[type[ProtocolParams]]
    roles: ClassVar[dict[str, Role]]
    """Roles that its calls may have, and how a framing lays out each."""
    role_tags: ClassVar[tuple[str, ...]] = ()
    """Tags that only the framing `tags` writes."""
    card: ClassVar[ProtocolCard]
    handles_needs: ClassVar[bool] = False
    """Whether `teach` can demonstrate parts that need each other's solutions."""

    _params: ProtocolParams

    def __init__(self, params: ProtocolParams, encoder: Encoder) -> None:
        """`params` is an instance of `params_class`."""
        assert isinstance(params, self.params_class)
        self._params = params
        self._encoder = encoder
        self._eos = encoder.eos
        framing = framing_of(params.framing, encoder)
        self._tags = Tags(self.tags_in_use(params, framing.kind), encoder)
        self.answer = AnswerFormat(params.answer)
        """How threads that solve the problem write their answer."""
        self.result = ResultFormat(params.result)
        """How a child writes what it returns."""
        self._framing: Framing
        if isinstance(framing, TagFramingConfig):
            self._framing = TagFraming(self.layout(), self._tags, encoder)
        else:
            self._framing = WordFraming(framing, self._instruction, self._tags, encoder)

    @property
    def params(self) -> ProtocolParams:
        """Section of the recipe with this protocol's parameters."""
        return self._params

    @property
    def tags(self) -> Tags:
        """The tags of the protocol in its tokenizer."""
        return self._tags

    @classmethod
    @abstractmethod
    def tags_of(cls, params: ProtocolParams) -> tuple[str, ...]:
        """Structural tags with these parameters; a tokenizer should have each as one token, but need not."""

    @classmethod
    def tags_in_use(cls, params: ProtocolParams, framing: FramingKind) -> tuple[str, ...]:
        """Tags that a tokenizer should have with this kind of framing: a framing in words needs no role tags,
        and an answer format other than tags needs no answer tags.
        """
        unused = {*(() if framing == "tags" else cls.role_tags)}
        unused |= {*(() if AnswerFormat(params.answer).tags else ANSWER_TAGS)}
        unused |= {*(() if ResultFormat(params.result).tags else RESULT_TAGS)}
        return tuple(tag for tag in cls.tags_of(params) if tag not in unused)

    @classmethod
    def words_of(cls, params: ProtocolParams) -> tuple[str, ...]:
        """Further words that the protocol forces or teaches, for a tokenizer built from words."""
        return ()

    @classmethod
    def endings(cls) -> tuple[str, ...]:
        """Tags that announce a result. They and what follows decide an episode, so supervised training may
        weigh them more.
        """
        return ()

    @abstractmethod
    def open(self, prompt: Prompt, tree: SearchTree | None = None) -> Continue | Fork:
        """The root's first call, or the threads it opens before its first call. `tree` is given when a
        demonstration is built, for prefixes that describe it.
        """

    @abstractmethod
    def on_call(self, thread: ThreadView) -> Action:
        """The action after a finished call (stop STOP or LENGTH; aborted and failed calls are handled
        elsewhere).
        """

    @abstractmethod
    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        """The action after a join. `results` are in the order of the children."""

    def on_scores(self, thread: ThreadView) -> Action:
        """The action after the scorer has answered: `thread.scorings[-1]`."""
        raise AssertionError(f"{self.name} asks no scorer")

    def on_ready(self, ask: Ask, needed: tuple[ThreadResult, ...]) -> Ask:
        """The first call of a child whose `needs` have ended."""
        return ask

    @abstractmethod
    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        """Output ids of a perfect imitator of the solver in the `call_number`-th call of the thread at
        `path`.
        """

    @abstractmethod
    def needed_length(self, prompt: Prompt) -> int:
        """Most tokens (context + output) of any thread's first call, for this problem.

        A joined context that grows beyond the model is a TRUNCATED outcome at run time, not a configuration
        error.
        """

    def split_text(self, text: TextCursor) -> Sequence[SaidCall]:
        """The calls of a text in the protocol's published flat format.

        Raises TrajectoryError, with line and column, for text that does not fit; by default for every text.
        """
        raise TrajectoryError(f"flat text: {self.name} has no published flat format")

    def barrier(self) -> Barrier:
        """Barrier of a fork, from the recipe."""
        params = self._params
        assert isinstance(params, ForkingParams)
        if params.wait == "all":
            return Barrier()
        kind = BarrierKind.FIRST_K if params.wait == "first" else BarrierKind.FIRST_SUCCESS
        return Barrier(kind=kind, k=params.wait_for)

    @property
    def nothing(self) -> tuple[Span, ...]:
        """What a parent reads for a child without a result, unless the recipe says otherwise."""
        return self.forced(self.result.nothing)

    def result_text(self, result: ThreadResult, otherwise: tuple[Span, ...]) -> tuple[Span, ...]:
        """Spans that a parent reads for a child: its value, else the recipe's notice, else `otherwise`."""
        if result.value is not None:
            return result.value
        assert isinstance(self._params, ForkingParams) and result.outcome is not None
        outcome = result.outcome.value
        notice = next((text for ending, text in self._params.notices.items() if ending == outcome), None)
        return otherwise if notice is None else self.forced(notice)

    @property
    def exact_text(self) -> bool:
        """Whether text keeps its white space; a tokenizer of words drops it."""
        return not self._encoder.words_only

    def frame(self, role: str, *parts: Part, begin: str | None = None) -> tuple[Span, ...]:
        """Context of a call of this role, laid out by the framing.

        Args:
            parts: the problem, results of other threads, spans, and texts of the protocol, in their order.
            begin: text with tags behind which the model goes on; None: what the framing puts there itself.
        """
        return self._framing.frame(role, parts, begin)

    def layout(self) -> dict[str, Role]:
        """How the framing `tags` lays out each role."""
        return self.roles

    def instruction(self, role: str) -> str:
        """The default user turn of a role, for framings in words."""
        return self.roles[role].instruction

    def _instruction(self, role: str) -> str:
        budgets = self._params.budgets
        holes = {
            "answer": self.answer.phrase(),
            "result": self.result.phrase(),
            "width": str(budgets.width),
            "depth": str(budgets.depth),
        }
        framing = self._params.framing
        given = framing.instructions if framing is not None and framing.kind != "tags" else {}
        return _HOLE.sub(lambda hole: holes[hole[1]], given.get(role, self.instruction(role)))

    def vote_of(self, ids: tuple[int, ...] | None) -> Answer | None:
        """An answer as votes compare it: its ids, or its text in the normal form of the recipe."""
        kind = self._params.answer.normalise or "exact"
        if ids is None or kind == "exact":
            return ids
        return NORMALISERS[kind]("".join(self._encoder.pieces(ids)).strip())

    def given(self, result: ThreadResult) -> Answer | None:
        """The answer that a thread returned, if it did, as votes compare it."""
        return self.vote_of(result.ids) if result.outcome is ThreadOutcome.RETURNED else None

    def most_voted(self, results: Sequence[ThreadResult]) -> Return:
        """End of the root with the answer that most threads returned; of several, the earliest."""
        winner = vote([self.given(result) for result in results])
        value = None if winner is None else results[winner].value
        return Return(outcome=ThreadOutcome.RETURNED, value=value, success=value is not None)

    def end(self, thread: ThreadView) -> Return:
        """The end of a thread that solves the problem, as its last call says."""
        if thread.last.stop is StopReason.LENGTH:
            return cut_off()
        return self.answer.end(self._tags.read(thread.last))

    def answer_of(self, call: Call) -> tuple[Span, ...] | None:
        """The answer that a finished call gives, as the end of a thread reads it; None without one."""
        ended = call.stop is StopReason.STOP
        return self.answer.end(self._tags.read(call)).value if ended else None

    def forced(self, *parts: str | tuple[int, ...]) -> tuple[Span, ...]:
        """One forced span of texts (tags included) and ids; () when there is nothing."""
        ids = self._written(parts)
        return (Forced(ids=ids),) if ids else ()

    def say(self, *parts: str | tuple[int, ...]) -> tuple[int, ...]:
        """Ids of texts and ids in a row, for `teach`; EOS is the end of the sequence.

        Exact text has one space between two texts, but none where either has white space there and none in
        front of a closing tag. A tokenizer of words drops all white space.
        """
        if self._encoder.words_only:
            return self._written(parts)
        spaced: list[str | tuple[int, ...]] = []
        for part in parts:
            before = spaced[-1] if spaced else " "
            if isinstance(part, str) and isinstance(before, str) and part and part != EOS:
                apart = before[-1:].isspace() or part[0].isspace() or part.startswith("</")
                part = part if apart else f" {part}"
            if part != "":
                spaced.append(part)
        return self._written(spaced)

    def _written(self, parts: Sequence[str | tuple[int, ...]]) -> tuple[int, ...]:
        """Ids of texts and ids in a row; texts side by side are encoded as one, but words are not."""
        ids: tuple[int, ...] = ()
        text = ""
        for part in (*parts, ()):
            if isinstance(part, str) and part != EOS:
                if self._encoder.words_only:
                    ids += self._tags.write(part)
                else:
                    text += part
                continue
            ids += self._tags.write(text) if text else ()
            text = ""
            ids += (self._eos,) if part == EOS else part  # type: ignore[operator]
        return ids
