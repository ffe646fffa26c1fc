"""Drive one episode: the machine decides, the engine samples, calls of an episode run at once."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data.episodes.trajectory import Episode, StopReason
from rollout.commands import CallResult, Cancel, Command, EpisodeEvent, Generate
from rollout.engines.base import Engine, EngineRequest
from rollout.machine import EpisodeMachine
from rollout.protocols.shared.base import ThinkingProtocol
from rollout.seeds import call_seed


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeSpec:
    """One sample to run. Crosses the process boundary to the rollout actor."""

    group: int
    """Position of the group in the run's order of consumption."""
    sample: int
    problem: str
    prompt: tuple[int, ...]
    """[P] the task's prompt ids."""
    temperature: float
    run_seed: int

    @property
    def id(self) -> str:
        return f"{self.group}/{self.sample}"


async def run_episode(
    engine: Engine,
    protocol: ThinkingProtocol,
    task: EpisodeSpec,
    *,
    name: str = "",
    told: Sequence[EpisodeEvent] = (),
    tell: Callable[[EpisodeEvent], None] = lambda _: None,
) -> Episode:
    """Runs to the end whatever happens: a call that the engine fails is a FAILED thread, not an exception.

    `told`: what an earlier run of the same task, cut short, has passed to `tell`. The episode goes on from
    there: finished calls are not sampled again; those that were in flight are, with their old seeds. `name`
    keeps request ids of concurrent runs on one engine apart.

    Raises EngineError only when the engine is dead, since then nothing can be sampled any more.
    """
    machine = EpisodeMachine(
        protocol, task.prompt, id=task.id, problem=task.problem, max_length=engine.max_length
    )
    begun = time.monotonic() - (told[-1].seconds if told else 0.0)
    running: dict[asyncio.Task[CallResult], int] = {}

    async def issue(commands: list[Command]) -> None:
        cancels = [request_id(command.call) for command in commands if isinstance(command, Cancel)]
        for command in commands:
            if isinstance(command, Generate):
                request = _request(request_id(command.call), task, command)
                running[asyncio.ensure_future(_sample(engine, request, begun))] = command.call
        if cancels:
            await engine.cancel(cancels)

    def request_id(call: int) -> str:
        return f"{name}{task.id}/{call}"

    async def hear(arrival: EpisodeEvent) -> None:
        tell(arrival)
        await issue(_answer(machine, arrival))

    try:
        waited_for, lost = _caught_up(machine, task, told)
        await issue(waited_for)
        for arrival in lost:
            await hear(arrival)
        while running:
            left = None if machine.deadline is None else machine.deadline - (time.monotonic() - begun)
            finished, _ = await asyncio.wait(
                running, timeout=left if left is None else max(0.0, left), return_when=asyncio.FIRST_COMPLETED
            )
            seconds = time.monotonic() - begun
            if not finished:
                await hear(EpisodeEvent(seconds=seconds))
            # In call order: simultaneous arrivals must not make the record depend on scheduling.
            for future in sorted(finished, key=running.__getitem__):
                await hear(EpisodeEvent(seconds=seconds, call=running.pop(future), result=future.result()))
    finally:
        for future in running:
            future.cancel()
    return machine.episode()


def _answer(machine: EpisodeMachine, arrival: EpisodeEvent) -> list[Command]:
    if arrival.result is None:
        return machine.on_clock(arrival.seconds)
    assert arrival.call is not None
    return machine.on_result(arrival.call, arrival.result)


def _caught_up(
    machine: EpisodeMachine, task: EpisodeSpec, told: Sequence[EpisodeEvent]
) -> tuple[list[Command], list[EpisodeEvent]]:
    """Brings a new machine to where an earlier one was. -> (what that one was waiting for, what it has to be
    told of the calls that were being cancelled: all they had sampled died with the engine).
    """
    asked: dict[int, Generate] = {}
    cancelled: set[int] = set()

    def keep(commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Generate):
                asked[command.call] = command
            else:
                cancelled.add(command.call)

    keep(machine.begin())
    for arrival in told:
        if arrival.call is not None:
            del asked[arrival.call]
        keep(_answer(machine, arrival))
    seconds = told[-1].seconds if told else 0.0
    lost = []
    for call in sorted(cancelled & asked.keys()):
        nothing = CallResult(
            output=(), logprobs=(), versions=(), stop=StopReason.ABORT,
            seed=_request("", task, asked.pop(call)).seed, started_s=seconds, finished_s=seconds,
        )  # fmt: skip
        lost.append(EpisodeEvent(seconds=seconds, call=call, result=nothing))
    return list(asked.values()), lost


def _request(id: str, task: EpisodeSpec, command: Generate) -> EngineRequest:
    return EngineRequest(
        id=id,
        prompt=command.prompt,
        stops=command.stops.ids,
        stop_texts=command.stops.texts,
        max_tokens=command.max_tokens,
        temperature=task.temperature,
        seed=call_seed(task.run_seed, task.group, task.sample, command.path, command.number),
    )


async def _sample(engine: Engine, request: EngineRequest, begun: float) -> CallResult:
    result = await engine.generate(request)
    return CallResult(
        output=result.output,
        logprobs=result.logprobs,
        versions=result.versions,
        stop=result.stop,
        seed=request.seed,
        cached_tokens=result.cached_tokens,
        started_s=result.started_s - begun,
        finished_s=result.finished_s - begun,
    )
