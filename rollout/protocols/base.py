"""What a protocol is: pure functions from what was sampled to what happens next. No engine, no asyncio.

The same object is used five times: `teach` builds demonstrations, `on_call`/`on_join` drive rollouts and
evaluation and serving, and `Ask.trained` says what is trained. `rollout.machine` keeps the books (call
DAG, barriers, budgets), so a protocol is only the rules of one published method.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar
from typing import Protocol as Interface

from pydantic import BaseModel, ConfigDict, Field

from data.search_tree import SearchTree
from data.trajectory import Call, Ref, Span, ThreadOutcome, ViolationKind


class Encoder(Interface):
    """What a protocol needs of a tokenizer (`data.tokenizer.Codec` has it)."""

    @property
    def eos(self) -> int: ...

    def encode(self, text: str) -> tuple[int, ...]: ...

    def token(self, tag: str) -> int: ...


class Budgets(BaseModel):
    """Run-time limits of one episode, enforced by the machine. Hitting one is a typed outcome."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    width: int = Field(default=16, ge=1)
    """Children of one fork; further ones are dropped and recorded as a violation."""
    depth: int = Field(default=1, ge=0)
    """Nesting of threads."""
    total_tokens: int = Field(default=1 << 20, ge=1)
    """Sampled tokens of the whole episode."""
    critical_tokens: int = Field(default=1 << 20, ge=1)
    """Sampled tokens on the longest path."""


class ProtocolParams(BaseModel):
    """Recipe section `protocol`; every protocol adds its `name` and its own fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    budgets: Budgets = Budgets()
    """Run-time limits of one episode."""


class BarrierKind(StrEnum):
    """What a waiting thread waits for."""

    ALL = "all"
    FIRST_K = "first_k"
    """The first `k` that returned; the others are cancelled."""
    PREDICATE = "predicate"
    """Until `predicate(results so far)`; the others are cancelled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadResult:
    """What a finished thread hands to whoever waited for it."""

    thread: int
    key: int
    outcome: ThreadOutcome
    value: tuple[Span, ...] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Barrier:
    """Default: all of them."""

    kind: BarrierKind = BarrierKind.ALL
    k: int = 0
    predicate: Callable[[Sequence[ThreadResult]], bool] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """A call to make: what the model sees, what ends it, how much it may say."""

    role: str
    context: tuple[Span, ...]
    stops: tuple[int, ...]
    max_tokens: int
    trained: int | None = None
    """Leading output tokens that carry loss; None means all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A violation seen in the thread's last call; the machine adds which call."""

    kind: ViolationKind
    position: int | None = None
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Continue:
    """The thread goes on with another call."""

    ask: Ask
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Fork:
    """Open child threads and wait for them; with `resume` go on at once and `Await` them later."""

    children: tuple[Ask, ...]
    barrier: Barrier = field(default_factory=Barrier)
    resume: Ask | None = None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Await:
    """Wait for threads that `Fork(resume=...)` opened earlier, named by thread key; () means all."""

    keys: tuple[int, ...] = ()
    barrier: Barrier = field(default_factory=Barrier)
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Return:
    """The thread ends. For the root, `value` is the episode's answer."""

    outcome: ThreadOutcome
    value: tuple[Span, ...] | None
    notes: tuple[Note, ...] = ()


Action = Continue | Fork | Await | Return


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadView:
    """What a protocol may know of the thread it decides for."""

    path: tuple[int, ...]
    """Keys from the root: () is the root, (2,) its third child."""
    calls: tuple[Call, ...]
    """This thread's finished calls, in order; the last one is what just came back."""
    num_forks: int
    """Forks this thread has made."""

    @property
    def last(self) -> Call:
        return self.calls[-1]


def whole(call: Call) -> Ref:
    """Reference to all of a call's output."""
    return Ref(call=call.index, start=0, stop=len(call.output))


class ThinkingProtocol(ABC):
    """Base of all protocols. Subclasses are stateless: everything they know is in their arguments."""

    name: ClassVar[str]
    params_class: ClassVar[type[ProtocolParams]]

    _params: ProtocolParams

    def __init__(self, params: ProtocolParams, encoder: Encoder) -> None:
        """`params` is an instance of `params_class`. Raises ConfigError when a tag is not one token."""
        assert isinstance(params, self.params_class)
        self._params = params
        self._encode = encoder.encode
        self._eos = encoder.eos
        self._tag = {tag: encoder.token(tag) for tag in self.tags()}

    @classmethod
    @abstractmethod
    def tags(cls) -> tuple[str, ...]:
        """Structural tags; each must be one token of the tokenizer."""

    @classmethod
    def endings(cls) -> tuple[str, ...]:
        """Tags that announce a result; they and what follows decide an episode, so demonstrations may
        stress them.
        """
        return ()

    @abstractmethod
    def open(self, prompt: tuple[int, ...], tree: SearchTree | None = None) -> Ask:
        """First call of the root. `tree` is given when a demonstration is built, for prefixes that describe
        it.
        """

    @abstractmethod
    def on_call(self, thread: ThreadView) -> Action:
        """The thread's call came back (stop STOP or LENGTH; aborted and failed calls never get here)."""

    @abstractmethod
    def on_join(self, thread: ThreadView, results: tuple[ThreadResult, ...]) -> Action:
        """What the thread waited for is there, in the order of the children."""

    @abstractmethod
    def teach(self, tree: SearchTree, path: tuple[int, ...], call_number: int) -> tuple[int, ...]:
        """The output ids a perfect imitator of the solver gives in this thread's `call_number`-th call."""

    @abstractmethod
    def needed_length(self, prompt_tokens: int) -> int:
        """Context + output, in tokens, that every first call of a thread can use up, for a prompt of
        `prompt_tokens`.

        A joined context that grows beyond the model is a TRUNCATED outcome at run time, not a
        configuration error.
        """
