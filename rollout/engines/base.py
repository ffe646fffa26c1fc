"""The seam between an episode and whatever samples tokens for it. Token ids in, token ids out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from data.episodes.trajectory import StopReason, VersionSpan


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineRequest:
    """One call. `id` is unique among the live requests of an engine."""

    id: str
    prompt: tuple[int, ...]
    stops: tuple[int, ...]
    """Token ids that end the call; the stop token is part of the output."""
    stop_texts: tuple[str, ...] = ()
    """Strings that end the call as soon as the output spells one; its tokens are part of the output."""
    max_tokens: int
    temperature: float
    seed: int
    """In [0, 2**63): the same request with the same seed and weights samples the same tokens."""
    score_prompt: bool = False
    """Whether the prompt's own log-probabilities are wanted; such a call reads no cached prefix."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineResult:
    """What came back; `logprobs` are of the distribution actually sampled from (after temperature)."""

    output: tuple[int, ...]
    logprobs: tuple[float, ...]
    versions: tuple[VersionSpan, ...]
    """Which weights sampled which output range; exact to the token, updates in flight included."""
    stop: StopReason
    cached_tokens: int
    """Prompt tokens served from the prefix cache."""
    started_s: float
    """Monotonic clock of the engine's host, seconds: request submitted."""
    finished_s: float
    prompt_logprobs: tuple[float, ...] = ()
    """[P - 1] of the prompt's ids but the first, of the model's own distribution (temperature 1); when asked
    for.
    """


class Engine(Protocol):
    """What the episode runner needs of an engine. Implementations: `vllm_engine`, `scripted`."""

    @property
    def max_length(self) -> int:
        """Longest context + output of one call, in tokens."""
        ...

    async def generate(self, request: EngineRequest) -> EngineResult:
        """Raises EngineError when the engine is dead; an aborted call returns what it had, stop ABORT."""
        ...

    async def cancel(self, request_ids: Sequence[str]) -> None:
        """Abort requests; unknown ids are ignored (they may just have finished)."""
        ...
