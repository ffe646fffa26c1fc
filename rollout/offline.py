"""Episodes without an engine: a function speaks for the model, another picks which call comes back next."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

from data.episodes.trajectory import Episode, StopReason, VersionSpan
from data.text.prompt import Prompt
from rollout.commands import CallResult, Cancel, Command, Generate
from rollout.machine import EpisodeMachine
from rollout.protocols.shared.base import ThinkingProtocol

Say = Callable[[Generate], tuple[int, ...]]
"""A call -> the ids that are sampled, unless a stop id or the call's limit comes first."""


def drive(
    protocol: ThinkingProtocol,
    prompt: Prompt,
    say: Say,
    *,
    pick: Callable[[int], int] = lambda n: 0,
    max_length: int = 1000,
    fail: Callable[[Generate], bool] = lambda _: False,
    on_result: Callable[[CallResult], object] = lambda _: None,
    stopped: Callable[[Generate, tuple[int, ...]], bool] = lambda generate, output: False,
) -> Episode:
    """Run a machine to the end of its episode.

    Args:
        pick: n -> which of n calls in flight comes back next.
        fail: whether a call ends with an error of the engine.
        on_result: called with every result.
        stopped: whether an output ends at a stop that is text.
    """
    machine = EpisodeMachine(protocol, prompt, id="0/0", problem_id="p", max_length=max_length)
    flying: list[tuple[Generate, bool]] = []
    times = count()

    def take(commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Cancel):
                flying[:] = [(g, cancelled or g.call == command.call) for g, cancelled in flying]
            else:
                flying.append((command, False))

    take(machine.begin())
    while not machine.done:
        assert flying, "deadlock: threads wait, and no call is in flight"
        generate, cancelled = flying.pop(pick(len(flying)))
        result = _result(generate, say(generate), cancelled, fail(generate), float(next(times)))
        if result.stop is StopReason.LENGTH and stopped(generate, result.output):
            result = replace(result, stop=StopReason.STOP)
        on_result(result)
        take(machine.on_result(generate.call, result))
    assert not flying, "the episode ended with calls in flight"
    return machine.episode()


def _result(
    generate: Generate, said: tuple[int, ...], cancelled: bool, failed: bool, at: float
) -> CallResult:
    if failed:
        return CallResult(
            output=(), logprobs=(), versions=(), stop=StopReason.ERROR, started_s=at, finished_s=at
        )
    output: list[int] = []
    stop = StopReason.LENGTH
    for token in said[: generate.max_tokens]:
        output.append(token)
        if token in generate.stops.ids:
            stop = StopReason.STOP
            break
    if cancelled:
        output, stop = output[: len(output) // 2], StopReason.ABORT
    return CallResult(
        output=tuple(output),
        logprobs=(-1.0,) * len(output),
        versions=(VersionSpan(version=0, start=0, stop=len(output)),),
        stop=stop,
        started_s=at,
        finished_s=at,
    )


def babble(rng: random.Random, structural: Sequence[int], others: Sequence[int]) -> Say:
    """Text that often follows the rules and often breaks them, stop tokens included.

    structural: ids of tags and words of the protocol. others: ids of anything else.
    """
    likely = rng.choice([0.1, 0.4, 0.8])

    def say(generate: Generate) -> tuple[int, ...]:
        favourites = [*generate.stops.ids, *rng.sample(structural, k=min(4, len(structural)))]
        return tuple(
            rng.choice(favourites) if rng.random() < 0.2
            else rng.choice(structural) if rng.random() < likely
            else rng.choice(others)
            for _ in range(rng.choice([3, 12, 60]))
        )  # fmt: skip

    return say
