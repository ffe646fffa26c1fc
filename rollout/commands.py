"""Commands that an episode machine returns, and the events it takes. Calls go to an engine, questions about
texts to a scorer (`rollout.scoring`).
"""

from dataclasses import dataclass

from data.episodes.trajectory import StopReason, VersionSpan
from rollout.protocols.shared.tags import Stops


@dataclass(frozen=True, kw_only=True, slots=True)
class Generate:
    """Sample one call. `path` and `number` name the call independently of timing: seeds derive from them."""

    call: int
    prompt: tuple[int, ...]
    stops: Stops
    max_tokens: int
    path: tuple[int, ...]
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Cancel:
    """Abort a call; its result is still awaited (with what had been sampled)."""

    call: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredText:
    """The text of a call, for a scorer."""

    context: tuple[int, ...]
    output: tuple[int, ...]
    """What was sampled behind the context: the steps that end in it are to be scored."""
    ended: bool
    """Whether it ends at a stop; else its last step may be unfinished."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """Ask the scorer how good texts are."""

    scoring: int
    """Index among the questions of the episode."""
    texts: tuple[ScoredText, ...]
    path: tuple[int, ...]
    number: int
    """Index among the questions of the thread at `path`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Withdraw:
    """Nobody waits for these scores any more; no result is awaited."""

    scoring: int


Command = Generate | Cancel | Score | Withdraw


@dataclass(frozen=True, kw_only=True, slots=True)
class CallResult:
    """Result of a `Generate`. Times are seconds since the episode began."""

    output: tuple[int, ...]
    logprobs: tuple[float, ...]
    versions: tuple[VersionSpan, ...]
    stop: StopReason
    seed: int = 0
    cached_tokens: int = 0
    started_s: float = 0.0
    finished_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreResult:
    """Result of a `Score`. Times are seconds since the episode began."""

    scores: tuple[tuple[float, ...], ...]
    """[texts] scores of the steps that end in each output, in [0, 1]; at least one each. () after a failure.
    """
    failure: str = ""
    started_s: float = 0.0
    finished_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeEvent:
    """One input of an episode: a finished call, a scorer's answer, the caller's giving up or, without any
    of these, a timer tick.

    The events of an episode, in order, determine the state of its machine: a new machine that gets them
    reaches the same state. So an episode whose process died continues after its last recorded event.
    """

    seconds: float
    """Seconds since the episode began."""
    call: int | None = None
    result: CallResult | None = None
    """Result of that call."""
    given_up: bool = False
    """Whether, instead, the caller gives the episode up."""
    scoring: int | None = None
    scores: ScoreResult | None = None
    """Answer to that question."""
