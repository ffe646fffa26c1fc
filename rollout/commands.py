"""Commands that an episode machine returns, and the events it takes."""

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


Command = Generate | Cancel


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
class EpisodeEvent:
    """One input of an episode: a finished call, the caller's giving up or, if `call` is None, a timer tick.

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
