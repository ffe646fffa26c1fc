"""Interfaces between episodes and engines. Token ids in, token ids out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from data.episodes.trajectory import StopReason, VersionSpan

OnTokens = Callable[[int, tuple[int, ...]], None]
"""(number of ids before them, new ids) of a call, as they are sampled. A call that is sampled again, since
its engine died, begins at 0 again.
"""


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
    """Also return log-probabilities of the prompt; such a call reads no cached prefix."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineResult:
    """Result of one call."""

    output: tuple[int, ...]
    """[T] sampled token ids."""
    logprobs: tuple[float, ...]
    """[T] log-probabilities under the distribution that was sampled from (after temperature)."""
    versions: tuple[VersionSpan, ...]
    """Weight version of every output token; exact also when weights changed during the call."""
    stop: StopReason
    cached_tokens: int
    """Prompt tokens served from the prefix cache."""
    started_s: float
    """Time of submission, in seconds of the monotonic clock of the engine's host."""
    finished_s: float
    """Time of the last token, by the same clock."""
    prompt_logprobs: tuple[float, ...] = ()
    """[P - 1] log-probabilities of all prompt ids but the first, at temperature 1; () unless requested."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishReport:
    """Cost of one weight update, measured on the engine's host."""

    version: int
    check_s: float
    """Seconds to hash and check the file. Calls in flight wait, but are not interrupted."""
    pause_s: float
    """Seconds without sampling. Contexts of calls in flight are then recomputed, or kept."""
    load_s: float
    """Seconds to copy the weights; part of `pause_s`."""
    total_s: float
    """Seconds from the request to the end of the update."""
    bytes: int
    """Size of the file."""


class Engine(Protocol):
    """The part of an engine that episodes use: sampling and cancelling."""

    @property
    def max_length(self) -> int:
        """Longest context + output of one call, in tokens."""
        ...

    async def generate(self, request: EngineRequest, on_tokens: OnTokens | None = None) -> EngineResult:
        """Sample one call. An aborted call returns the tokens it has, with stop ABORT. `on_tokens` is told of
        every step of the model.

        Raises EngineError when the engine is dead, or refuses the request.
        """
        ...

    def cancel(self, request_ids: Sequence[str]) -> None:
        """Abort calls, without waiting for their ends: each then returns from `generate`. Unknown ids are
        ignored: those calls may just have finished.
        """
        ...


class RestartableEngine(Engine, Protocol):
    """An engine with processes and weights, as `RestartingEngine` starts, updates and replaces it."""

    @property
    def dead(self) -> bool:
        """Whether it was shut down or its process has ended."""
        ...

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Ids of its processes."""
        ...

    async def probe(self) -> None:
        """Return when the engine responds; a hanging one never does. Raises EngineError when dead."""
        ...

    async def cache_usage(self) -> float:
        """Share of the key-value cache that live calls hold, in [0, 1]. Raises EngineError when dead."""
        ...

    async def publish(self, path: Path, version: int, checksum: str) -> PublishReport:
        """Load the weights of a safetensors file as version `version`.

        Raises PublishError when the file is damaged or does not fit, EngineError when the engine failed.
        """
        ...

    def shutdown(self) -> None:
        """End its processes; calls in flight fail with EngineError. May be called twice."""
        ...
