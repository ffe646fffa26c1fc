"""Run one episode: the machine decides, the engine samples, and the calls of an episode run concurrently."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from data.episodes.probe_plan import ProbePlan
from data.episodes.trajectory import Episode, StopReason
from data.tasks.problem import Problem
from data.text.prompt import Prompt
from rollout.commands import (
    CallResult,
    Cancel,
    Command,
    EpisodeEvent,
    Generate,
    Score,
    ScoreResult,
    Withdraw,
)
from rollout.engines.base import Engine, EngineRequest
from rollout.give_up import GiveUp
from rollout.given_calls import GivenCall, gone_on
from rollout.machine import EpisodeMachine
from rollout.probing_machine import machine_of
from rollout.protocols.shared.base import ThinkingProtocol
from rollout.scoring import Scorer, ScoreRequest, fault
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
    probes: ProbePlan | None = None
    """Answers that are forced once the episode has ended; None: none."""
    problem: Problem | None = None
    """What a scorer is told beside the texts; only one that knows right from wrong needs it."""


class EpisodeWatch(Protocol):
    """What an onlooker of a running episode is told."""

    @property
    def wants_tokens(self) -> bool:
        """Whether `on_tokens` is to be called; each call then sends its tokens with every step."""
        ...

    def on_step(self, machine: EpisodeMachine, commands: Sequence[Command], seconds: float) -> None:
        """The machine has taken an event, `seconds` after the episode began, and gives these commands."""
        ...

    def on_tokens(self, call: int, start: int, ids: tuple[int, ...], seconds: float) -> None:
        """New output ids of a call, behind `start` others."""
        ...


async def run_episode(
    engine: Engine,
    protocol: ThinkingProtocol,
    spec: EpisodeSpec,
    *,
    scorer: Scorer | None = None,
    prefix: str = "",
    events: Sequence[EpisodeEvent] = (),
    on_event: Callable[[EpisodeEvent], None] = lambda _: None,
    watch: EpisodeWatch | None = None,
    give_up: GiveUp | None = None,
) -> Episode:
    """-> the finished episode. A call that the engine refuses ends its thread as FAILED; it raises nothing.

    Args:
        scorer: answers questions about texts; without one, threads that ask end as FAILED.
        prefix: separates the request ids of concurrent runs on one engine.
        events: those of an earlier, interrupted run of the same spec: the episode continues after them. Calls
            that had finished are not sampled again; calls in flight are, with the same seeds, and open
            questions to the scorer are asked again.
        on_event: called with each event before it is applied.
        watch: told of every change and, if it wants, of every token.
        give_up: once it is given, all threads are cancelled; the episode ends with what had been sampled.

    Raises EngineError only when the engine is dead, since then nothing can be sampled any more.
    """
    machine = machine_of(
        protocol,
        spec.prompt,
        id=spec.id,
        problem_id=spec.problem_id,
        max_length=engine.max_length,
        probes=spec.probes,
    )
    begun = time.monotonic() - (events[-1].seconds if events else 0.0)
    run = _EpisodeRun(
        engine, scorer, machine, spec, prefix=prefix, begun=begun, on_event=on_event, watch=watch
    )
    pending, lost = _restored(machine, spec, events)
    try:
        run.issue(pending)
        for event in lost:
            run.handle(event)
        if give_up is not None:
            give_up.connect(run.give_up)
        await run.to_end()
    finally:
        if give_up is not None:
            give_up.disconnect()
        for future in run.running:
            future.cancel()
    return machine.episode()


_Key = tuple[int, int]
"""(0, index of a call) or (1, index of a question to the scorer)."""


class _EpisodeRun:
    """An episode while it runs: its machine, its calls in flight and its open questions."""

    def __init__(
        self,
        engine: Engine,
        scorer: Scorer | None,
        machine: EpisodeMachine,
        spec: EpisodeSpec,
        *,
        prefix: str,
        begun: float,
        on_event: Callable[[EpisodeEvent], None],
        watch: EpisodeWatch | None,
    ) -> None:
        self._engine, self._machine, self._spec, self._prefix = engine, machine, spec, prefix
        self._scorer = scorer
        self._begun, self._on_event, self._watch = begun, on_event, watch
        self.running: dict[asyncio.Task[CallResult | ScoreResult], _Key] = {}
        """Calls in flight and open questions, by the task that waits for each."""
        self._cancelled: set[int] = set()
        self._issuing = False

    def _seconds(self) -> float:
        return time.monotonic() - self._begun

    def _request_id(self, call: int) -> str:
        return f"{self._prefix}{self._spec.id}/{call}"

    def issue(self, commands: Sequence[Command]) -> None:
        """Carry out the machine's commands."""
        self._issuing = True
        if self._watch is not None:
            self._watch.on_step(self._machine, commands, self._seconds())
        self._cancelled.update(command.call for command in commands if isinstance(command, Cancel))
        cancels = [self._request_id(command.call) for command in commands if isinstance(command, Cancel)]
        for command in commands:
            if isinstance(command, Generate):
                self.running[asyncio.create_task(self._sample(command))] = 0, command.call
            elif isinstance(command, Score):
                self.running[asyncio.create_task(self._score(command))] = 1, command.scoring
            elif isinstance(command, Withdraw):
                task = next(task for task, key in self.running.items() if key == (1, command.scoring))
                del self.running[task]
                task.cancel()
        if cancels:
            self._engine.cancel(cancels)
        self._issuing = False

    def handle(self, event: EpisodeEvent) -> None:
        """Apply an event, and carry out what follows from it."""
        self._on_event(event)
        self.issue(_apply(self._machine, event))

    def give_up(self) -> None:
        """Cancel all threads. An onlooker may ask for it while commands are carried out: they come first."""
        if self._issuing:
            asyncio.get_running_loop().call_soon(self.give_up)
        elif not self._machine.done:
            self.handle(EpisodeEvent(seconds=self._seconds(), given_up=True))

    async def to_end(self) -> None:
        """Wait for calls and the clock until nothing is in flight."""
        machine = self._machine
        while self.running:
            left = None if machine.deadline is None else max(0.0, machine.deadline - self._seconds())
            finished, _ = await asyncio.wait(
                {*self.running}, timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            seconds = self._seconds()
            if not finished:
                self.handle(EpisodeEvent(seconds=seconds))
            # In this order: simultaneous results must not make the record depend on scheduling.
            ended = sorted((key, task) for task, key in self.running.items() if task in finished)
            for key, task in ended:
                # An earlier result of the same moment may have withdrawn a question.
                if self.running.pop(task, None) is not None:
                    self.handle(_event(seconds, key, task.result()))

    async def _score(self, command: Score) -> ScoreResult:
        request, started = ScoreRequest(problem=self._spec.problem, texts=command.texts), self._seconds()
        found = "there is no scorer" if self._scorer is None else await self._scorer.score(request)
        failure = found if isinstance(found, str) else fault(request, found)
        return ScoreResult(
            scores=() if failure or isinstance(found, str) else found,
            failure=failure,
            started_s=started,
            finished_s=self._seconds(),
        )

    async def _sample(self, command: Generate) -> CallResult:
        request = _request(self._request_id(command.call), self._spec, command)
        key = command.path, command.number
        given = next((call for call in self._spec.given if (call.path, call.number) == key), None)
        if given is None or given.context != request.prompt:
            return await self._generate(request, command.call, 0)
        output, now = given.result.output, self._seconds()
        room = request.max_tokens - len(output)
        if given.whole or room < 1:
            return replace(given.result, started_s=now, finished_s=now)
        rest = replace(request, prompt=request.prompt + output, max_tokens=room)
        return gone_on(given.result, await self._generate(rest, command.call, len(output)))

    async def _generate(self, request: EngineRequest, call: int, behind: int) -> CallResult:
        """Ask the engine; `behind`: output tokens of the call that were given and not sampled."""
        if call in self._cancelled:  # before its task had begun
            return _nothing(request.seed, self._seconds())
        watch, begun = self._watch, self._begun
        if watch is None or not watch.wants_tokens:
            result = await self._engine.generate(request)
        else:
            tell = watch.on_tokens
            result = await self._engine.generate(
                request, lambda start, ids: tell(call, behind + start, ids, self._seconds())
            )
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


def _event(seconds: float, key: _Key, result: CallResult | ScoreResult) -> EpisodeEvent:
    if isinstance(result, CallResult):
        return EpisodeEvent(seconds=seconds, call=key[1], result=result)
    return EpisodeEvent(seconds=seconds, scoring=key[1], scores=result)


def _apply(machine: EpisodeMachine, event: EpisodeEvent) -> list[Command]:
    if event.given_up:
        return machine.on_give_up()
    if event.scores is not None:
        assert event.scoring is not None
        return machine.on_scores(event.scoring, event.scores)
    if event.result is None:
        return machine.on_clock(event.seconds)
    assert event.call is not None
    return machine.on_result(event.call, event.result)


def _restored(
    machine: EpisodeMachine, spec: EpisodeSpec, events: Sequence[EpisodeEvent]
) -> tuple[list[Command], list[EpisodeEvent]]:
    """Brings a new machine to the state of an interrupted one. -> (calls in flight and open questions, one
    event for each call that was being cancelled: its sampled tokens were lost with the engine).
    """
    in_flight: dict[int, Generate] = {}
    questions: dict[int, Score] = {}
    cancelled: set[int] = set()

    def note(commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Generate):
                in_flight[command.call] = command
            elif isinstance(command, Score):
                questions[command.scoring] = command
            elif isinstance(command, Withdraw):
                del questions[command.scoring]
            else:
                cancelled.add(command.call)

    note(machine.begin())
    for event in events:
        if event.call is not None:
            del in_flight[event.call]
        if event.scoring is not None:
            del questions[event.scoring]
        note(_apply(machine, event))
    seconds = events[-1].seconds if events else 0.0
    lost = []
    for call in sorted(cancelled & in_flight.keys()):
        nothing = _nothing(_request("", spec, in_flight.pop(call)).seed, seconds)
        lost.append(EpisodeEvent(seconds=seconds, call=call, result=nothing))
    return [*in_flight.values(), *questions.values()], lost


def _nothing(seed: int, seconds: float) -> CallResult:
    """The result of a call that was cancelled without a token."""
    return CallResult(
        output=(), logprobs=(), versions=(), stop=StopReason.ABORT, seed=seed, started_s=seconds,
        finished_s=seconds,
    )  # fmt: skip


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
