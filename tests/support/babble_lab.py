"""An engine that babbles as a function of context and seed, and every protocol for it to speak under."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from protocol_lab import babble

from data.episodes.trajectory import Call, Episode, StopReason, VersionSpan
from data.errors import EngineError, PublishError
from rollout.commands import Generate
from rollout.engines.base import EngineRequest, EngineResult, OnTokens, PublishReport
from rollout.protocols import PROTOCOLS
from rollout.protocols.shared.tags import Stops
from rollout.scoring import ScoreRequest, TextScores

VARIANTS: list[dict[str, Any]] = [
    *({"name": name} for name in PROTOCOLS),
    {"name": "spawn_join", "wait": "first", "wait_for": 2},
    {"name": "spawn_join", "on_failure": "retry"},
    {"name": "best_of_n", "scorer": "reward_model", "wait": "first", "wait_for": 2},
    {"name": "beam", "step_tokens": 6, "chain_tokens": 30},
    {"name": "early_rejection", "tau": 5},
    {"name": "latts", "width": 2, "step_tokens": 6, "chain_tokens": 30},
    {
        "name": "drafted_steps",
        "accept": "conformal",
        "alpha": 0.5,
        "calibrate": 2,
        "step_tokens": 6,
        "chain_tokens": 30,
    },
]


class Babbler:
    """An engine whose answer is a function of context and seed; calls end in the order of their asking."""

    max_length = 600

    def __init__(self, *, version: int = 0, lives: int = 10**9) -> None:
        self.version, self.lives, self.dead = version, lives, False
        self.asked: list[EngineRequest] = []
        self.cancelled: set[str] = set()
        self.process_ids = (version,)

    async def generate(self, request: EngineRequest, on_tokens: OnTokens | None = None) -> EngineResult:
        self.asked.append(request)
        began = time.monotonic()
        for _ in range(8):
            await asyncio.sleep(0)
        self.lives -= 1
        if self.dead or self.lives < 0:
            self.dead = True
            raise EngineError("dead")
        output, stop = answer(request)
        if request.id in self.cancelled:
            output, stop = (), StopReason.ABORT
        spans = (VersionSpan(version=self.version, start=0, stop=len(output)),)
        return EngineResult(
            output=output, logprobs=(-1.0,) * len(output), versions=spans if output else (), stop=stop,
            cached_tokens=0, started_s=began, finished_s=time.monotonic(),
        )  # fmt: skip

    def cancel(self, request_ids: Sequence[str]) -> None:
        self.cancelled.update(request_ids)

    async def probe(self) -> None:
        if self.dead:
            raise EngineError("dead")

    async def publish(self, path: Path, version: int, checksum: str) -> PublishReport:
        await asyncio.sleep(0)
        if self.dead:
            raise EngineError("dead")
        if checksum == "bad" or (checksum == "bad for the first" and not self.version):
            raise PublishError("checksum")
        self.version = version
        return PublishReport(version=version, check_s=0, pause_s=0, load_s=0, total_s=0, bytes=0)

    def shutdown(self) -> None:
        self.dead = True


class Critic:
    """A scorer whose answer is a function of the texts; it fails for some."""

    def __init__(self) -> None:
        self.asked = 0

    async def score(self, request: ScoreRequest) -> TextScores | str:
        self.asked += 1
        for _ in range(5):
            await asyncio.sleep(0)
        rng = random.Random(hash(request.texts))
        return "tired" if rng.random() < 0.05 else tuple((rng.random(),) for _ in request.texts)


def answer(request: EngineRequest) -> tuple[tuple[int, ...], StopReason]:
    """What it says to a request, and why it stops."""
    say = babble(random.Random(hash((request.prompt, request.seed))))
    generate = Generate(
        call=0, prompt=request.prompt, stops=Stops(ids=request.stops), max_tokens=request.max_tokens,
        path=(), number=0,
    )  # fmt: skip
    said = say(generate)[: request.max_tokens]
    for index, token in enumerate(said):
        if token in request.stops:
            return said[: index + 1], StopReason.STOP
    return said, StopReason.LENGTH


def timeless(episode: Episode) -> Episode:
    """The episode without the times of its calls, scorings and probes."""

    def without(call: Call) -> Call:
        return replace(call, started_s=0.0, finished_s=0.0)

    return replace(
        episode,
        calls=tuple(map(without, episode.calls)),
        scorings=tuple(replace(each, started_s=0.0, finished_s=0.0) for each in episode.scorings),
        probes=tuple(replace(probe, call=without(probe.call)) for probe in episode.probes),
    )
