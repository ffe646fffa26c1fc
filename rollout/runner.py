"""Drive one episode: the machine decides, the engine samples, calls of an episode run at once."""

import asyncio
import time
from dataclasses import dataclass

from data.trajectory import Episode
from rollout.commands import CallResult, Cancel, Command, Generate
from rollout.engines.base import Engine, EngineRequest
from rollout.machine import EpisodeMachine
from rollout.protocols.base import ThinkingProtocol
from rollout.seeds import call_seed


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeTask:
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
    engine: Engine, protocol: ThinkingProtocol, task: EpisodeTask, *, name: str = ""
) -> Episode:
    """Runs to the end whatever happens: a call that the engine fails is a FAILED thread, not an exception.

    Raises EngineError only when the engine is dead, since then nothing can be sampled any more. `name`
    keeps request ids of concurrent runs on one engine apart.
    """
    machine = EpisodeMachine(
        protocol, task.prompt, id=task.id, problem=task.problem, max_length=engine.max_length
    )
    begun = time.monotonic()
    running: dict[asyncio.Task[CallResult], int] = {}

    async def issue(commands: list[Command]) -> None:
        cancels = [request_id(command.call) for command in commands if isinstance(command, Cancel)]
        for command in commands:
            if isinstance(command, Generate):
                seed = call_seed(task.run_seed, task.group, task.sample, command.path, command.number)
                request = EngineRequest(
                    id=request_id(command.call),
                    prompt=command.prompt,
                    stops=command.stops.ids,
                    stop_texts=command.stops.texts,
                    max_tokens=command.max_tokens,
                    temperature=task.temperature,
                    seed=seed,
                )
                running[asyncio.ensure_future(_sample(engine, request, begun))] = command.call
        if cancels:
            await engine.cancel(cancels)

    def request_id(call: int) -> str:
        return f"{name}{task.id}/{call}"

    try:
        await issue(machine.begin())
        while running:
            left = None if machine.deadline is None else machine.deadline - (time.monotonic() - begun)
            finished, _ = await asyncio.wait(
                running, timeout=left if left is None else max(0.0, left), return_when=asyncio.FIRST_COMPLETED
            )
            if not finished:
                await issue(machine.on_clock(time.monotonic() - begun))
            # In call order: simultaneous arrivals must not make the record depend on scheduling.
            for future in sorted(finished, key=running.__getitem__):
                await issue(machine.on_result(running.pop(future), future.result()))
    finally:
        for future in running:
            future.cancel()
    return machine.episode()


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
