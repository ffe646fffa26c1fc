"""The episode DAG: what was asked of the engine, what it sampled, and which call waited for which.

Every token of an episode exists exactly once, in the output of the call that sampled it or in a FORCED
span. A later context that repeats it holds a REFerence (call, start, stop). So contexts, prefix sharing
and log-probabilities are exact by construction and nothing is ever tokenised twice.

Example: a parent that forks two threads and joins them (spawn_join) is
    call 0  thread 0  parent   context [Forced(prompt)]                                      after ()
    call 1  thread 1  child    context [Forced(tag), Ref(0, 1, 6), Forced(tag)]              after (FORK 0)
    call 2  thread 2  child    context [Forced(tag), Ref(0, 7, 12), Forced(tag)]             after (FORK 0)
    call 3  thread 0  parent   context [Forced(prompt), Forced(tag), Ref(1, 30, 40), ...]    after (NEXT
    0, JOIN 1, JOIN 2)
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from data.errors import TrajectoryError


class StopReason(StrEnum):
    """Why the engine stopped a call."""

    STOP = "stop"
    """One of the call's stop tokens was sampled (it is the last output token)."""
    LENGTH = "length"
    """`max_tokens` or the model's context was used up."""
    ABORT = "abort"
    """The call was cancelled; the output is what had been sampled by then."""
    ERROR = "error"
    """The engine failed the call; it has no output."""


class EdgeKind(StrEnum):
    """Why a call could not start before another had finished."""

    NEXT = "next"
    """Same thread, next call."""
    FORK = "fork"
    """The earlier call opened this thread."""
    JOIN = "join"
    """The earlier call was the last of a thread that was waited for."""
    RETRY = "retry"
    """The earlier call failed its thread, which this call begins anew."""
    SLOT = "slot"
    """The earlier call had to end before one more could be live (`budgets.live_calls`)."""


class ThreadOutcome(StrEnum):
    """How a thread ended: data that protocols and rewards see, not an exception."""

    RETURNED = "returned"
    """Ended by itself with well-formed output. Whether it succeeded is `Thread.success`."""
    TRUNCATED = "truncated"
    """It ran into a length limit."""
    MALFORMED = "malformed"
    """It stopped, but its output does not follow the protocol."""
    BUDGET = "budget"
    """A budget of the episode was used up."""
    CANCELLED = "cancelled"
    """Stopped because no call waited for it any more."""
    FAILED = "failed"
    """The engine failed its call."""
    CHILD_FAILED = "child_failed"
    """A child thread failed, and the recipe makes that fail the episode (`on_failure: fail`)."""


class Limit(StrEnum):
    """Which bound ended a thread whose outcome is BUDGET or TRUNCATED."""

    WIDTH = "width"
    DEPTH = "depth"
    TOTAL_TOKENS = "total_tokens"
    CRITICAL_TOKENS = "critical_tokens"
    SECONDS = "seconds"
    CALL = "call"
    """The call's own token limit."""
    CONTEXT = "context"
    """The longest context the model takes."""


class ViolationKind(StrEnum):
    """A way in which sampled text can break a protocol."""

    NO_CHILDREN = "no_children"
    TOO_FEW_CHILDREN = "too_few_children"
    TOO_MANY_CHILDREN = "too_many_children"
    EMPTY_CHILD = "empty_child"
    MALFORMED_CHILD = "malformed_child"
    MALFORMED_RETURN = "malformed_return"
    MALFORMED_ANSWER = "malformed_answer"
    UNEXPECTED_TOKEN = "unexpected_token"
    TOO_DEEP = "too_deep"
    UNCLOSED_TAG = "unclosed_tag"
    STRAY_TAG = "stray_tag"
    DUPLICATE_INDEX = "duplicate_index"
    MISSING_INDEX = "missing_index"
    FORK_NOT_ALLOWED = "fork_not_allowed"
    JOIN_WITHOUT_FORK = "join_without_fork"
    UNKNOWN_DEPENDENCY = "unknown_dependency"
    CYCLE = "cycle"
    TEXT_AFTER_END = "text_after_end"


@dataclass(frozen=True, kw_only=True, slots=True)
class Forced:
    """Ids that no model sampled: prompts, tags, injected lines. They carry no loss."""

    ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ref:
    """Output tokens `start:stop` of an earlier call, by reference."""

    call: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


Span = Forced | Ref

Require = Callable[[bool, str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionSpan:
    """Output tokens `start:stop` were sampled by the weights of `version`."""

    version: int
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """This call waited for `call`."""

    kind: EdgeKind
    call: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """Where sampled text broke the protocol: output position of `call` (None: the call as a whole)."""

    kind: ViolationKind
    call: int
    position: int | None = None
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One request to the engine and what came back. See the module's example.

    A demonstration is an episode whose calls were never sampled: `logprobs` and `versions` are empty.
    """

    index: int
    """Position in `Episode.calls`; every reference and edge points to a smaller one."""
    thread: int
    role: str
    """The protocol's name for this kind of call, e.g. "parent"; credit rules may depend on it."""
    context: tuple[Span, ...]
    output: tuple[int, ...]
    """[T] sampled ids, the stop token included."""
    logprobs: tuple[float, ...]
    """[T] log-probability of each output id under the distribution it was sampled from; [] in a demo."""
    versions: tuple[VersionSpan, ...]
    """Weight versions; they tile 0:T in order."""
    stop: StopReason
    after: tuple[Edge, ...]
    num_trained: int
    """How many leading output tokens carry loss (T for all, 1 for a forking token only, 0 for none)."""
    seed: int = 0
    cached_tokens: int = 0
    started_s: float = 0.0
    """Seconds since the episode began."""
    finished_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Thread:
    """One line of thought, as calls. Thread 0 is the root; `key` is a child's index among siblings."""

    index: int
    parent: int | None
    key: int
    opened_by: int | None
    """The forking call; None for a root, and for children that are opened before the root's first call."""
    depth: int
    outcome: ThreadOutcome
    limit: Limit | None = None
    """The limit that ended the thread, if one did."""
    success: bool = False
    """Whether it returned what it was opened for, as its protocol reads the text. Not a grade."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scoring:
    """One question of a thread to the scorer, and the answer: how good the texts of some calls are.

    The text of a call is its context and its output; its steps are those that end in the output.
    """

    thread: int
    calls: tuple[int, ...]
    """Calls whose texts were scored; none is from before it has come back."""
    scores: tuple[tuple[float, ...], ...]
    """For each call the scores of its steps, from 0 (wrong) to 1 (right); () when there are none."""
    failure: str = ""
    """Why there are no scores: the scorer failed, or nobody waited for them any more."""
    started_s: float = 0.0
    """Seconds since the episode began."""
    finished_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """An answer that was forced behind a beginning of the root's thought, after the episode had ended.

    It is no part of the episode's thinking: no call reads it, it carries no loss, and its tokens are counted
    apart (`topology.probe_tokens`).
    """

    call: Call
    """The call that completed the answer; its index goes on behind those of `Episode.calls`."""
    of: int
    """Call of the root whose output was cut."""
    stop: int
    """Number of leading output tokens of that call that were read."""
    answer: tuple[int, ...] | None
    """Ids of the answer, as the protocol reads it; None when none was given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Episode:
    """One sample of a problem: its calls in the order they were issued, its threads and its answer."""

    id: str
    """Unique in a run: "<group>/<sample>"."""
    problem_id: str
    """`Problem.id` of its problem."""
    protocol: str
    calls: tuple[Call, ...]
    threads: tuple[Thread, ...]
    answer: tuple[Span, ...] | None
    """The answer as the protocol reads it; None when none was given (gave up, truncated, malformed)."""
    violations: tuple[Violation, ...] = ()
    scorings: tuple[Scoring, ...] = ()
    """What its threads asked a scorer, by thread and in each thread's order."""
    probes: tuple[Probe, ...] = ()
    """Answers that were forced to learn what its thoughts are worth, in the order of their places."""

    def __post_init__(self) -> None:
        check_episode(self)

    @property
    def outcome(self) -> ThreadOutcome:
        """Outcome of the root thread."""
        return self.threads[0].outcome

    def resolve(self, spans: tuple[Span, ...]) -> tuple[int, ...]:
        """The ids that spans stand for."""
        ids: list[int] = []
        for span in spans:
            ids.extend(
                span.ids if isinstance(span, Forced) else self.calls[span.call].output[span.start : span.stop]
            )
        return tuple(ids)

    def context_ids(self, call: Call) -> tuple[int, ...]:
        """[C] exactly what the engine was given for `call`."""
        return self.resolve(call.context)

    def answer_ids(self) -> tuple[int, ...] | None:
        """The answer's ids, or None when there is none."""
        return None if self.answer is None else self.resolve(self.answer)

    @property
    def oldest_version(self) -> int | None:
        """Smallest weight version that sampled any token; None when nothing was sampled."""
        return min((span.version for call in self.calls for span in call.versions), default=None)

    @property
    def newest_version(self) -> int | None:
        """Largest weight version that sampled any token; None when nothing was sampled."""
        return max((span.version for call in self.calls for span in call.versions), default=None)


def check_episode(episode: Episode) -> None:
    """Raises TrajectoryError, naming the call, when an invariant of the DAG does not hold."""

    def require(condition: bool, what: str) -> None:
        if not condition:
            raise TrajectoryError(f"episode {episode.id}: {what}")

    # No calls at all is possible: a prompt that does not fit the model ends as TRUNCATED before anything is
    # sampled.
    require(bool(episode.threads), "needs a root thread")
    for position, thread in enumerate(episode.threads):
        require(thread.index == position, f"thread {thread.index} stands at position {position}")
        if thread.parent is None:
            require(thread.depth == 0, f"thread {position} has no parent but depth {thread.depth}")
        else:
            require(thread.parent < position, f"thread {position} is older than its parent {thread.parent}")
            parent_depth = episode.threads[thread.parent].depth
            require(thread.depth == parent_depth + 1, f"thread {position} has depth {thread.depth}")
    for position, call in enumerate(episode.calls):
        where = f"call {position}"
        require(call.index == position, f"{where} carries index {call.index}")
        require(0 <= call.thread < len(episode.threads), f"{where} belongs to unknown thread {call.thread}")
        _check_tokens(call, where, require)
        for span in call.context:
            if isinstance(span, Ref):
                _check_ref(episode, span, position, where, require)
        for edge in call.after:
            require(0 <= edge.call < position, f"{where} waits for call {edge.call}, which is not earlier")
    for span in episode.answer or ():
        if isinstance(span, Ref):
            _check_ref(episode, span, len(episode.calls), "the answer", require)
    for violation in episode.violations:
        require(0 <= violation.call < len(episode.calls), f"violation names unknown call {violation.call}")
    for position, scoring in enumerate(episode.scorings):
        where = f"scoring {position}"
        require(0 <= scoring.thread < len(episode.threads), f"{where} belongs to an unknown thread")
        known = all(0 <= call < len(episode.calls) for call in scoring.calls)
        require(known and bool(scoring.calls), f"{where} names calls {scoring.calls}")
        answered = len(scoring.scores) == (0 if scoring.failure else len(scoring.calls))
        require(answered, f"{where}: scores for every call, or a reason why there are none")
    for position, probe in enumerate(episode.probes):
        _check_probe(episode, probe, position, require)


def _check_tokens(call: Call, where: str, require: Require) -> None:
    size = len(call.output)
    require(
        len(call.logprobs) in ({0} if not call.versions else {size}),
        f"{where}: one log-probability per output id",
    )
    require(0 <= call.num_trained <= size, f"{where}: trains {call.num_trained} of {size} tokens")
    end = 0
    for span in call.versions:
        require(
            span.start == end and span.stop >= span.start, f"{where}: version spans do not tile the output"
        )
        end = span.stop
    require(not call.versions or end == size, f"{where}: version spans end at {end}, the output at {size}")


def _check_probe(episode: Episode, probe: Probe, position: int, require: Require) -> None:
    where, count = f"probe {position}", len(episode.calls)
    require(probe.call.index == count + position, f"{where} carries index {probe.call.index}")
    require(0 <= probe.of < count, f"{where} continues unknown call {probe.of}")
    read = 0 <= probe.stop <= len(episode.calls[probe.of].output)
    require(read, f"{where} reads {probe.stop} tokens of call {probe.of}")
    require(probe.call.num_trained == 0, f"{where} carries loss")
    _check_tokens(probe.call, where, require)
    for span in probe.call.context:
        if isinstance(span, Ref):
            _check_ref(episode, span, count, where, require)


def _check_ref(episode: Episode, span: Ref, before: int, where: str, require: Require) -> None:
    require(0 <= span.call < before, f"{where} refers to call {span.call}, which is not earlier")
    size = len(episode.calls[span.call].output)
    require(
        0 <= span.start <= span.stop <= size, f"{where} refers to {span.start}:{span.stop} of {size} tokens"
    )
