"""Run one episode: the machine decides, the engine samples, and the calls of an episode run concurrently."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from data.episodes.trajectory import Episode, StopReason
from data.text.prompt import Prompt
from rollout.commands import CallResult, Cancel, Command, EpisodeEvent, Generate
from rollout.engines.base import Engine, EngineRequest
from rollout.given_calls import GivenCall, gone_on
from rollout.machine import EpisodeMachine
from rollout.protocols.shared.base import ThinkingProtocol
from rollout.seeds import call_seed


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeSpec:
    """One episode to sample. It crosses the process boundary to the rollout actor."""

    id: str
    """Unique among the episodes that run at once; becomes `Episode.id` and begins the ids of its requests."""
    problem_id: str = ""
    """Copied to `Episode.problem_id`; nothing else reads it."""
    prompt: Prompt
    """The problem, as text."""
    temperature: float
    seed: str
    """Any text; with a call's path and number it gives the call's seed (`rollout.seeds`)."""
    given: tuple[GivenCall, ...] = ()
    """Calls of a recorded episode that are not sampled again (`rollout.given_calls`)."""


async def run_episode(
    engine: Engine,
    protocol: ThinkingProtocol,
    spec: EpisodeSpec,
    *,
    prefix: str = "",
    events: Sequence[EpisodeEvent] = (),
    on_event: Callable[[EpisodeEvent], None] = lambda _: None,
) -> Episode:
    """-> the finished episode. A call that the engine refuses ends its thread as FAILED; it raises nothing.

    `on_event` is called with each event before it is applied. `events` are those of an earlier, interrupted
    run of the same spec: the episode continues after them. Calls that had finished are not sampled again;
    calls in flight are, with the same seeds. `prefix` separates the request ids of concurrent runs on one
    engine.

    Raises EngineError only when the engine is dead, since then nothing can be sampled any more.
    """
    machine = EpisodeMachine(
        protocol, spec.prompt, id=spec.id, problem_id=spec.problem_id, max_length=engine.max_length
    )
    begun = time.monotonic() - (events[-1].seconds if events else 0.0)
    running: dict[asyncio.Task[CallResult], int] = {}

    async def issue(commands: list[Command]) -> None:
        cancels = [request_id(command.call) for command in commands if isinstance(command, Cancel)]
        for command in commands:
            if isinstance(command, Generate):
                request = _request(request_id(command.call), spec, command)
                running[_sampling(engine, request, begun, spec, command)] = command.call
        if cancels:
            await engine.cancel(cancels)

    def request_id(call: int) -> str:
        return f"{prefix}{spec.id}/{call}"

    async def handle(event: EpisodeEvent) -> None:
        on_event(event)
        await issue(_apply(machine, event))

    try:
        pending, lost = _restored(machine, spec, events)
        await issue(pending)
        for event in lost:
            await handle(event)
        while running:
            left = None if machine.deadline is None else machine.deadline - (time.monotonic() - begun)
            finished, _ = await asyncio.wait(
                running, timeout=left if left is None else max(0.0, left), return_when=asyncio.FIRST_COMPLETED
            )
            seconds = time.monotonic() - begun
            if not finished:
                await handle(EpisodeEvent(seconds=seconds))
            # In call order: simultaneous results must not make the record depend on scheduling.
            for future in sorted(finished, key=running.__getitem__):
                await handle(EpisodeEvent(seconds=seconds, call=running.pop(future), result=future.result()))
    finally:
        for future in running:
            future.cancel()
    return machine.episode()


def _apply(machine: EpisodeMachine, event: EpisodeEvent) -> list[Command]:
    if event.result is None:
        return machine.on_clock(event.seconds)
    assert event.call is not None
    return machine.on_result(event.call, event.result)


def _restored(
    machine: EpisodeMachine, spec: EpisodeSpec, events: Sequence[EpisodeEvent]
) -> tuple[list[Command], list[EpisodeEvent]]:
    """Brings a new machine to the state of an interrupted one. -> (the calls that were in flight, one event
    for each call that was being cancelled: its sampled tokens were lost with the engine).
    """
    in_flight: dict[int, Generate] = {}
    cancelled: set[int] = set()

    def note(commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Generate):
                in_flight[command.call] = command
            else:
                cancelled.add(command.call)

    note(machine.begin())
    for event in events:
        if event.call is not None:
            del in_flight[event.call]
        note(_apply(machine, event))
    seconds = events[-1].seconds if events else 0.0
    lost = []
    for call in sorted(cancelled & in_flight.keys()):
        nothing = CallResult(
            output=(), logprobs=(), versions=(), stop=StopReason.ABORT,
            seed=_request("", spec, in_flight.pop(call)).seed, started_s=seconds, finished_s=seconds,
        )  # fmt: skip
        lost.append(EpisodeEvent(seconds=seconds, call=call, result=nothing))
    return list(in_flight.values()), lost


def _request(id: str, spec: EpisodeSpec, command: Generate) -> EngineRequest:
    return EngineRequest(
        id=id,
        prompt=command.prompt,
        stops=command.stops.ids,
        stop_texts=command.stops.texts,
        max_tokens=command.max_tokens,
        temperature=spec.temperature,
        seed=call_seed(spec.seed, command.path, command.number),
    )


def _sampling(
    engine: Engine, request: EngineRequest, begun: float, spec: EpisodeSpec, command: Generate
) -> asyncio.Task[CallResult]:
    key = command.path, command.number
    given = next((call for call in spec.given if (call.path, call.number) == key), None)
    return asyncio.create_task(_sample(engine, request, begun, given))


async def _sample(
    engine: Engine, request: EngineRequest, begun: float, given: GivenCall | None = None
) -> CallResult:
    if given is not None and given.context == request.prompt:
        output, now = given.result.output, time.monotonic() - begun
        room = request.max_tokens - len(output)
        if given.whole or room < 1:
            return replace(given.result, started_s=now, finished_s=now)
        rest = replace(request, prompt=request.prompt + output, max_tokens=room)
        return gone_on(given.result, await _sample(engine, rest, begun))
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
