"""What an episode machine says to whoever runs its calls, and what it is told."""

from dataclasses import dataclass

from data.episodes.trajectory import StopReason, VersionSpan
from rollout.protocols.shared.tags import Stops


@dataclass(frozen=True, kw_only=True, slots=True)
class Generate:
    """Ask the engine. `path` and `number` name the call independently of timing: seeds derive from them."""

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
    """What came back for a `Generate`. Times are seconds since the episode began."""

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
    """One thing that a running episode was told: a call came back or, without one, the clock spoke.

    The arrivals of an episode, in order, are all that its machine depends on: fed to a new machine, they
    bring it to the same state. So an episode whose process died goes on from its last recorded call.
    """

    seconds: float
    """Since the episode began."""
    call: int | None = None
    result: CallResult | None = None
    """Of that call."""
