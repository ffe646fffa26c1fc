"""A recorded episode taken up again behind one of its steps: which calls stay as they were.

What does not depend on the step stays: the calls that its writer had seen, and those of other threads that
nothing of it has reached. The call in which the step stands goes on behind the step; what came after that
call or read it is sampled anew, under the episode's own protocol. So the step's thread is completed and the
rest of the protocol runs on: of a sequential episode this is a plain completion of its prefix.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from data.episodes.trajectory import Call, EdgeKind, Episode, Ref, StopReason, VersionSpan
from rollout.commands import CallResult


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenCall:
    """The output of a call, or its beginning, as it was recorded. It is used where an episode makes this call
    in the same context; in another one the call is sampled.
    """

    path: tuple[int, ...]
    """Keys of the call's thread, from the root."""
    number: int
    """Index of the call in its thread."""
    context: tuple[int, ...]
    """[C] ids of the recorded context."""
    result: CallResult
    whole: bool
    """Whether the call ended there; otherwise sampling goes on behind the output."""


def given_calls(episode: Episode, call: int, stop: int | None) -> tuple[GivenCall, ...]:
    """What stays of an episode behind output token `stop` (excluded) of a call; None: behind the whole call.

    An aborted call goes on behind what it had sampled; a failed one is sampled anew.
    """
    dependent = dependent_calls(episode, call)
    found: list[GivenCall] = []
    for other, (path, number) in zip(episode.calls, _keys(episode), strict=True):
        if other.index in dependent or other.stop is StopReason.ERROR:
            continue
        ends = stop if other.index == call else None
        found.append(
            GivenCall(
                path=path,
                number=number,
                context=episode.context_ids(other),
                result=_recorded(other) if ends is None else _beginning(other, ends),
                whole=ends is None and other.stop is not StopReason.ABORT,
            )
        )
    return tuple(found)


def dependent_calls(episode: Episode, call: int) -> frozenset[int]:
    """Calls that could have become others had this call said something else: those that came after it or read
    it, and so on. Waiting for its slot is no dependence.
    """
    reached = {call}
    for other in episode.calls[call + 1 :]:
        waited = {edge.call for edge in other.after if edge.kind is not EdgeKind.SLOT}
        read = {span.call for span in other.context if isinstance(span, Ref)}
        if reached & (waited | read):
            reached.add(other.index)
    return frozenset(reached - {call})


def sampled_calls(episode: Episode, given: Sequence[GivenCall]) -> list[tuple[Call, int]]:
    """Calls of a completed episode that an engine has sampled, each with the number of its output tokens that
    were given.
    """
    known = {(each.path, each.number): each for each in given}
    found: list[tuple[Call, int]] = []
    for call, key in zip(episode.calls, _keys(episode), strict=True):
        used = known.get(key)
        if used is None or used.context != episode.context_ids(call):
            found.append((call, 0))
        elif not used.whole:
            found.append((call, len(used.result.output)))
    return found


def gone_on(given: CallResult, result: CallResult) -> CallResult:
    """A given beginning and what was sampled behind it, as one result."""
    size = len(given.output)
    versions = tuple(
        replace(span, start=span.start + size, stop=span.stop + size) for span in result.versions
    )
    return replace(
        result,
        output=given.output + result.output,
        logprobs=given.logprobs + result.logprobs,
        versions=given.versions + versions,
    )


def _keys(episode: Episode) -> list[tuple[tuple[int, ...], int]]:
    """Path and number of each call."""
    paths: list[tuple[int, ...]] = []
    for thread in episode.threads:
        paths.append(() if thread.parent is None else (*paths[thread.parent], thread.key))
    counts = [0] * len(episode.threads)
    found: list[tuple[tuple[int, ...], int]] = []
    for call in episode.calls:
        found.append((paths[call.thread], counts[call.thread]))
        counts[call.thread] += 1
    return found


def _recorded(call: Call) -> CallResult:
    return CallResult(
        output=call.output, logprobs=call.logprobs, versions=call.versions, stop=call.stop, seed=call.seed
    )


def _beginning(call: Call, stop: int) -> CallResult:
    """The first `stop` tokens. Those of an episode that was not sampled get log-probabilities of 0."""
    spans = call.versions or (VersionSpan(version=0, start=0, stop=stop),)
    return CallResult(
        output=call.output[:stop],
        logprobs=call.logprobs[:stop] or (0.0,) * stop,
        versions=tuple(
            replace(span, stop=min(span.stop, stop)) for span in spans if span.start < stop or not stop
        ),
        stop=StopReason.LENGTH,
        seed=call.seed,
    )
