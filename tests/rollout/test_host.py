"""The episode host without Ray: scripted engines, admission, restored episodes, dead engines."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from data.episodes.trajectory import Episode, StopReason
from data.errors import EngineError
from data.text.codec import Codec, load_codec
from data.text.prompt import Prompt
from rollout.commands import EpisodeEvent
from rollout.engines.base import EngineRequest, EngineResult, OnTokens
from rollout.engines.scripted import ScriptedEngine
from rollout.host import EpisodeHost
from rollout.protocols.self_consistency import SelfConsistencyParams
from rollout.runner import EpisodeSpec

PARAMS = SelfConsistencyParams(name="self_consistency", chains=3, chain_tokens=20)


def spec(sample: int) -> EpisodeSpec:
    return EpisodeSpec(id=f"0/{sample}", prompt=Prompt("5 6"), temperature=1.0, seed=f"9/0/{sample}")


def digits(prompt: tuple[int, ...], seed: int) -> Sequence[int]:
    return [4 + (seed >> (4 * index)) % 8 for index in range(12)]


class SlowEngine(ScriptedEngine):
    """Counts the calls that run at once; the call number `dies_at` finds the engine dead."""

    dies_at: int | None = None
    running = 0
    most = 0

    async def generate(self, request: EngineRequest, on_tokens: OnTokens | None = None) -> EngineResult:
        if len(self.requests) == self.dies_at:
            self.shutdown()
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await super().generate(request, on_tokens)
        finally:
            self.running -= 1


@pytest.fixture(scope="module")
def codec(tiny_model_dir: Path) -> Codec:
    return load_codec(tiny_model_dir)


def calls(episode: Episode) -> list[tuple[tuple[int, ...], int, StopReason]]:
    return [(call.output, call.seed, call.stop) for call in episode.calls]


def host_of(codec: Codec, engines: list[SlowEngine], *, start_limit: int = 4) -> EpisodeHost:
    """A host that starts these engines, one behind the other."""
    remaining = iter(engines)

    async def start() -> SlowEngine:
        return next(remaining)

    return EpisodeHost(codec, start, start_limit=start_limit, max_live=start_limit)


def test_episodes_run_under_the_published_version_and_no_more_at_once_than_the_limit(codec: Codec) -> None:
    async def scenario() -> None:
        engine = SlowEngine(digits)
        host = host_of(codec, [engine], start_limit=2)
        await host.start()
        await host.publish(Path("weights"), 3, "checksum")
        episodes = await asyncio.gather(*(host.run(PARAMS, spec(sample)) for sample in range(6)))
        assert [episode.id for episode in episodes] == [f"0/{sample}" for sample in range(6)]
        assert {len(episode.calls) for episode in episodes} == {3}
        assert {span.version for e in episodes for call in e.calls for span in call.versions} == {3}
        assert engine.most == 6, "two episodes of three calls"
        status = await host.status()
        assert (status.deaths, status.live_limit, status.cache_peak) == (0, 2, 0.0)
        host.shutdown()
        with pytest.raises(EngineError):
            await host.run(PARAMS, spec(9))

    asyncio.run(scenario())


def test_an_engine_that_dies_is_replaced_and_an_interrupted_episode_continues(codec: Codec) -> None:
    async def scenario() -> None:
        whole_host = host_of(codec, [SlowEngine(digits)])
        await whole_host.start()
        events: list[EpisodeEvent] = []
        whole = await whole_host.run(PARAMS, spec(0), on_event=events.append)
        assert len(events) == 3

        first, second = SlowEngine(digits), SlowEngine(digits)
        first.dies_at = 1
        host = host_of(codec, [first, second])
        await host.start()
        await host.publish(Path("weights"), 0, "checksum")
        assert calls(await host.run(PARAMS, spec(0))) == calls(whole)
        assert (await host.status()).deaths == 1

        sampled = len(second.requests)
        again = await host.run(PARAMS, spec(0), events=events[:2])
        assert calls(again) == calls(whole)
        assert len(second.requests) == sampled + 1, "two of its three calls had finished"

    asyncio.run(scenario())


def test_a_cancelled_run_leaves_the_gate(codec: Codec) -> None:
    async def scenario() -> None:
        host = host_of(codec, [SlowEngine(digits)], start_limit=1)
        await host.start()
        first = asyncio.create_task(host.run(PARAMS, spec(0)))
        second = asyncio.create_task(host.run(PARAMS, spec(1)))
        for _ in range(3):
            await asyncio.sleep(0)
        first.cancel()
        assert len((await second).calls) == 3
        assert first.cancelled()

    asyncio.run(scenario())
