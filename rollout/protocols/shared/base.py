"""Interface of a protocol: pure functions from sampled output to the next action. No engine, no asyncio.

The same object is used five times: `teach` builds demonstrations; `on_call` and `on_join` drive rollouts,
evaluation and serving; `Ask.trained` selects the trained tokens. `rollout.machine` keeps the state (call DAG,
barriers, budgets), so a protocol is only the rules of one published method.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from data.episodes.trajectory import Call, Forced, Limit, Ref, Span, ThreadOutcome, ViolationKind
from data.errors import TrajectoryError
from data.tasks.search_tree import SearchTree
from rollout.protocols.shared.barrier import Barrier, BarrierKind, Decision, ThreadResult
from rollout.protocols.shared.flat_text import SaidCall, TextCursor
from rollout.protocols.shared.params import Budgets, ForkingParams, ProtocolParams
from rollout.protocols.shared.tags import EOS, Encoder, Mark, Reading, Stops, Tags

__all__ = [
    "EOS",
    "Action",
    "Ask",
    "Await",
    "Barrier",
    "BarrierKind",
    "Budgets",
    "Continue",
    "Decision",
    "Encoder",
    "Fork",
    "ForkingParams",
    "Mark",
    "Note",
    "ProtocolCard",
    "ProtocolParams",
    "Reading",
    "Return",
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
class Ask:
    """A call to make: its context, what ends it, and its most output tokens."""

    role: str
    context: tuple[Span, ...]
    stops: Stops
    max_tokens: int
    trained: int | None = None
    """Leading output tokens that carry loss; None means all."""
    name: str = ""
    """Name by which the parent awaits a child; set on the child's first call."""
    memo: int = 0
    """Number that the protocol gets back in every view of the thread; set on its first call."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A violation seen in the thread's last call; the machine adds which call."""

    kind: ViolationKind
    position: int | None = None
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Continue:
    """Continue the thread with another call."""

    ask: Ask
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Fork:
    """Open child threads and wait for them; with `resume` continue at once and `Await` them later."""

    children: tuple[Ask, ...]
    needs: tuple[tuple[int, ...], ...] = ()
    """Threads that each child needs: for each child the indices in `children`, smaller than its own, of those
    that must end before it starts; `on_ready` then completes its first call. () when no child needs another.
    """
    barrier: Barrier = field(default_factory=Barrier)
    resume: Ask | None = None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Await:
    """Wait for threads that this one opened earlier, by name; () means all that were not joined yet.

    An unknown name is ignored; with no thread to wait for, `on_join` is called at once with ().
    """

    names: tuple[str, ...] = ()
    barrier: Barrier = field(default_factory=Barrier)
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Return:
    """End the thread. For the root, `value` is the episode's answer."""

    outcome: ThreadOutcome
    value: tuple[Span, ...] | None
    notes: tuple[Note, ...] = ()
    success: bool = False
    """Whether the thread reports success."""
    limit: Limit | None = None


Action = Continue | Fork | Await | Return


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadView:
    """The state of a thread that a protocol may use."""

    path: tuple[int, ...]
    """Keys from the root: () is the root, (2,) its third child."""
    prompt: tuple[int, ...]
    """[P] prompt ids of the episode."""
    calls: tuple[Call, ...]
    """Finished calls of the thread, in order; the last one has just come back."""
    num_forks: int
    """Number of forks of the thread."""
    name: str
    memo: int
    """`name` and `memo` of the thread's first call."""
    opened: tuple[str, ...]
    """Names of all threads it has opened, in order."""
    joined: tuple[str, ...]
    """Names of the threads it has joined."""
    results: tuple[ThreadResult, ...]
    """Results of the joined threads, in the order of the joins."""

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


def whole(call: Call) -> Ref:
    """Reference to all of a call's output."""
    return Ref(call=call.index, start=0, stop=len(call.output))


class ThinkingProtocol(ABC):
    """Base class of all protocols. Subclasses are stateless: they depend on their arguments only."""

    name: ClassVar[str]
    params_class: ClassVar[type[ProtocolParams]]
    roles: ClassVar[tuple[str, ...]]
    """Roles that its calls may have."""
    card: ClassVar[ProtocolCard]
    handles_needs: ClassVar[bool] = False
    """Whether `teach` can demonstrate parts that need each other's solutions."""

    _params: ProtocolParams

    def __init__(self, params: ProtocolParams, encoder: Encoder) -> None:
        """`params` is an instance of `params_class`."""
        assert isinstance(params, self.params_class)
        self._params = params
        self._encode = encoder.encode
        self._eos = encoder.eos
        self._tags = Tags(self.tags_of(params), encoder)

    @property
    def params(self) -> ProtocolParams:
        """Section of the recipe with this protocol's parameters."""
        return self._params

    @classmethod
    @abstractmethod
    def tags_of(cls, params: ProtocolParams) -> tuple[str, ...]:
        """Structural tags with these parameters; a tokenizer should have each as one token, but need not."""

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
    def open(self, prompt: tuple[int, ...], tree: SearchTree | None = None) -> Continue | Fork:
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

    def on_ready(self, ask: Ask, needed: tuple[ThreadResult, ...]) -> Ask:
        """The first call of a child whose `needs` have ended."""
        return ask

    @abstractmethod
    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        """Output ids of a perfect imitator of the solver in the `call_number`-th call of the thread at
        `path`.
        """

    @abstractmethod
    def needed_length(self, prompt_tokens: int) -> int:
        """Most tokens (context + output) of any thread's first call, for a prompt of `prompt_tokens`.

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

    def result_text(self, result: ThreadResult, otherwise: tuple[Span, ...]) -> tuple[Span, ...]:
        """Spans that a parent reads for a child: its value, else the recipe's notice, else `otherwise`."""
        if result.value is not None:
            return result.value
        assert isinstance(self._params, ForkingParams) and result.outcome is not None
        outcome = result.outcome.value
        notice = next((text for ending, text in self._params.notices.items() if ending == outcome), None)
        return otherwise if notice is None else self.forced(notice)

    def forced(self, *parts: str | tuple[int, ...]) -> tuple[Span, ...]:
        """One forced span of texts (tags included) and ids; () when there is nothing."""
        ids = [i for part in parts for i in (self._tags.write(part) if isinstance(part, str) else part)]
        return (Forced(ids=tuple(ids)),) if ids else ()

    def say(self, *parts: str | tuple[int, ...]) -> tuple[int, ...]:
        """Ids of texts and ids in a row, for `teach`; EOS is the end of the sequence."""
        ids: list[int] = []
        for part in parts:
            if isinstance(part, str):
                ids += (self._eos,) if part == EOS else self._tags.write(part)
            else:
                ids += part
        return tuple(ids)


def cut_off() -> Return:
    """The end of a thread whose last call was cut off at its token limit."""
    return Return(outcome=ThreadOutcome.TRUNCATED, value=None, limit=Limit.CALL)


def malformed(kind: ViolationKind, position: int | None = None, detail: str = "") -> Return:
    """The end of a thread that broke the protocol and cannot continue."""
    note = Note(kind=kind, position=position, detail=detail)
    return Return(outcome=ThreadOutcome.MALFORMED, value=None, notes=(note,))
