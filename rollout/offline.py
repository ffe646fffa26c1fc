"""Episodes without an engine: a function speaks for the model, another picks which call comes back next."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

from data.episodes.probe_plan import ProbePlan
from data.episodes.trajectory import Episode, StopReason, VersionSpan
from data.text.prompt import Prompt
from rollout.commands import CallResult, Cancel, Command, Generate, Score, ScoreResult, Withdraw
from rollout.probing_machine import machine_of
from rollout.protocols.shared.base import ThinkingProtocol

Say = Callable[[Generate], tuple[int, ...]]
"""A call -> the ids that are sampled, unless a stop id or the call's limit comes first."""
Judge = Callable[[Score], tuple[tuple[float, ...], ...] | str]
"""A question to the scorer -> the scores of each text's steps, or why there are none."""


def undecided(question: Score) -> tuple[tuple[float, ...], ...]:
    """A scorer that finds every text equally good."""
    return ((0.5,),) * len(question.texts)


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
    judge: Judge = undecided,
    probes: ProbePlan | None = None,
) -> Episode:
    """Run a machine to the end of its episode.

    Args:
        pick: n -> which of n calls in flight and open questions comes back next.
        fail: whether a call ends with an error of the engine.
        on_result: called with every result.
        stopped: whether an output ends at a stop that is text.
        judge: answers questions to the scorer.
        probes: answers that are forced once the episode has ended.
    """
    machine = machine_of(protocol, prompt, id="0/0", problem_id="p", max_length=max_length, probes=probes)
    flying: list[tuple[Generate | Score, bool]] = []
    times = count()

    def take(commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Cancel):
                flying[:] = [(each, cancelled or command.call == _call(each)) for each, cancelled in flying]
            elif isinstance(command, Withdraw):
                flying[:] = [each for each in flying if _scoring(each[0]) != command.scoring]
            else:
                flying.append((command, False))

    take(machine.begin())
    while not machine.done:
        assert flying, "deadlock: threads wait, and no call is in flight"
        generate, cancelled = flying.pop(pick(len(flying)))
        if isinstance(generate, Score):
            take(machine.on_scores(generate.scoring, _scored(judge(generate), float(next(times)))))
            continue
        result = _result(generate, say(generate), cancelled, fail(generate), float(next(times)))
        if result.stop is StopReason.LENGTH and stopped(generate, result.output):
            result = replace(result, stop=StopReason.STOP)
        on_result(result)
        take(machine.on_result(generate.call, result))
    assert not flying, "the episode ended with calls in flight"
    return machine.episode()


def _call(command: Generate | Score) -> int | None:
    return command.call if isinstance(command, Generate) else None


def _scoring(command: Generate | Score) -> int | None:
    return command.scoring if isinstance(command, Score) else None


def _scored(said: tuple[tuple[float, ...], ...] | str, at: float) -> ScoreResult:
    if isinstance(said, str):
        return ScoreResult(scores=(), failure=said, started_s=at, finished_s=at)
    return ScoreResult(scores=said, started_s=at, finished_s=at)


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
