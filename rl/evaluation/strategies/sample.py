"""One sample of a problem as strategies see it: its answer, whether that is right, and its calls on the token
clock.

A sample is an episode of any protocol, or an answer of an endpoint. Several samples of one problem run side
by side: tokens add up, the longest path and the most seconds count, and a prompt that they share is one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from data.episodes.topology import critical_seconds, token_clock
from data.episodes.trajectory import Episode
from rl.evaluation.eflops import ClockedCall, ModelShape, clipped, eflops


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """What one call has sampled, on the token clock."""

    begin: int
    """Tick at which the call begins."""
    output: tuple[int, ...]
    """[T] ids that it sampled."""
    logprobs: tuple[float, ...]
    """[T] log-probability of each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One sample of a problem."""

    answer: str | None
    """The answer in the form in which votes compare it; None without one."""
    correct: bool
    """Whether the answer is right."""
    calls: tuple[ClockedCall, ...]
    """Its calls, for their cost."""
    seconds: float
    """Measured seconds on its longest path."""
    mean_logprob: float | None
    """Mean log-probability of its tokens; None when the source does not tell."""
    pieces: tuple[Piece, ...] = ()
    """What its calls have sampled; () when the source tells no ids."""

    @property
    def total_tokens(self) -> float:
        """Sampled tokens of all calls."""
        return sum(call.length for call in self.calls)

    @property
    def critical_tokens(self) -> float:
        """Tick at which the last call ends."""
        return max((call.begin + call.length for call in self.calls), default=0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Cost of one problem under a strategy."""

    total_tokens: float
    critical_tokens: float
    critical_seconds: float
    eflops: float | None
    """Kinetics' eFLOPs; None when the shape of the model is not known."""


COSTS = ("total_tokens", "critical_tokens", "critical_seconds", "eflops")
"""Fields of `Cost`, in the order of tables."""


def sample_of(episode: Episode, *, answer: str | None, correct: bool) -> Sample:
    """The sample that an episode is; `answer` in the form in which votes compare it."""
    clock = token_clock(episode)
    logprobs = [value for call in episode.calls for value in call.logprobs]
    return Sample(
        answer=answer,
        correct=correct,
        calls=tuple(
            ClockedCall(context=episode.context_ids(call), begin=begin, length=end - begin)
            for call, (begin, end) in zip(episode.calls, clock, strict=True)
        ),
        seconds=critical_seconds(episode),
        mean_logprob=sum(logprobs) / len(logprobs) if logprobs else None,
        pieces=tuple(
            Piece(begin=begin, output=call.output, logprobs=call.logprobs)
            for call, (begin, _) in zip(episode.calls, clock, strict=True)
        ),
    )


def cost_of(
    samples: Sequence[Sample], shape: ModelShape | None, stops: Sequence[float] | None = None
) -> Cost:
    """Cost of samples that run side by side, each cancelled at its tick of `stops` if it still runs then.

    What was sampled by then is paid. The seconds of a cancelled sample are taken to be spread evenly over the
    ticks of its longest path.
    """
    kept: list[ClockedCall] = []
    critical = seconds = 0.0
    for number, sample in enumerate(samples):
        end = sample.critical_tokens
        until = end if stops is None else min(end, stops[number])
        kept += sample.calls if until == end else clipped(sample.calls, until)
        critical = max(critical, until)
        seconds = max(seconds, sample.seconds * (until / end if end else 1.0))
    return Cost(
        total_tokens=sum(call.length for call in kept),
        critical_tokens=critical,
        critical_seconds=seconds,
        eflops=None if shape is None else eflops(kept, shape),
    )
