"""Real engines in real actors, killed and stopped while they work: episodes go on, and weights are right."""

import asyncio
import os
import signal
import time
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.checksum import file_checksum
from data.episodes.trajectory import Episode
from data.errors import EngineError, PublishError
from data.stacks import stack_file
from data.text.codec import load_codec
from data.text.prompt import Prompt
from rl.runtime.engine_pool import EnginePool
from rl.runtime.engine_slot import LaunchSettings
from rl.runtime.ray_session import Runtime
from rollout.engines.vllm_settings import VllmSettings
from rollout.protocols.self_consistency import SelfConsistencyParams
from rollout.runner import EpisodeSpec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.soak,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore"),
]

PARAMS = SelfConsistencyParams(name="self_consistency", chains=3, chain_tokens=700)
HANG_S = 30.0
START_S = 200.0


class House:
    """One engine pool for all tests of this file, in the event loop that it belongs to."""

    def __init__(self, model_dir: Path, logs: Path) -> None:
        self.codec = load_codec(model_dir)
        self.weights = model_dir / "model.safetensors"
        self.logs = logs
        self.faults: list[str] = []
        vllm = VllmSettings(model_dir=model_dir, max_length=1024, kv_cache_gb=0.1, max_live_calls=64)
        self.settings = LaunchSettings(
            engine=vllm, tokenizer_dir=model_dir, start_seconds=START_S, hang_seconds=HANG_S, logs=logs
        )
        self.engines: EnginePool

    async def start(self) -> None:
        self.engines = await EnginePool.start(
            self.settings,
            ray_options=[{"num_cpus": 1}],
            report=lambda kind, message: self.faults.append(f"{kind}: {message}"),
        )

    async def publish(self, version: int) -> None:
        await self.engines.publish(self.weights, version, file_checksum(self.weights))

    def specs(self) -> list[EpisodeSpec]:
        prompt = Prompt("37 10 9 4 2")
        return [
            EpisodeSpec(id=f"0/{sample}", prompt=prompt, temperature=1.0, seed=f"7/0/{sample}")
            for sample in range(6)
        ]

    async def episodes(self, harm: Coroutine[Any, Any, None] | None = None) -> list[Episode]:
        """Six episodes of three long chains each, while something is done to their engine."""
        work = asyncio.ensure_future(self.engines.run_group(PARAMS, self.specs()))
        if harm is not None:
            await harm
        found, _ = await work
        return found

    async def kill(self, place: int, number: int = signal.SIGKILL, *, after: float) -> None:
        """The actor (0) or its engine (1), once a heartbeat has named them."""
        began = time.monotonic()
        while len(self.engines.process_ids) < 2 or time.monotonic() - began < after:
            await asyncio.sleep(0.05)
        os.kill(self.engines.process_ids[place], number)


@pytest.fixture(scope="module")
def stage(
    tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[asyncio.Runner, House]]:
    run = tmp_path_factory.mktemp("engines")
    before = Path.cwd()
    with Runtime(run) as _, asyncio.Runner() as runner:
        house = House(tiny_model_dir, run / "logs")
        runner.run(house.start())
        yield runner, house
        runner.run(house.engines.close())
    os.chdir(before)


def same(found: list[Episode], expected: list[Episode]) -> bool:
    """All but times and what was cached."""

    def bare(episode: Episode) -> Episode:
        calls = [replace(c, started_s=0.0, finished_s=0.0, cached_tokens=0) for c in episode.calls]
        return replace(episode, calls=tuple(calls))

    return [bare(episode) for episode in found] == [bare(episode) for episode in expected]


@pytest.fixture(scope="module")
def undisturbed(stage: tuple[asyncio.Runner, House]) -> list[Episode]:
    """What the episodes are when nothing happens."""
    runner, house = stage
    runner.run(house.publish(1))
    return runner.run(house.episodes())


@pytest.mark.parametrize(("place", "said"), [(1, "the process of engine 0 died"), (0, "engine 0 died")])
def test_episodes_outlive_their_engine_and_its_actor(
    stage: tuple[asyncio.Runner, House], undisturbed: list[Episode], place: int, said: str
) -> None:
    """The same tokens, log-probabilities and versions, to the bit."""
    runner, house = stage
    house.faults.clear()
    found = runner.run(house.episodes(house.kill(place, after=1.0)))
    assert same(found, undisturbed)
    runner.run(asyncio.sleep(1.5))  # the next heartbeat
    assert any(said in fault for fault in house.faults), house.faults
    # The replacement has the published weights under their version.
    assert {span.version for episode in found for call in episode.calls for span in call.versions} == {1}


def test_an_engine_that_hangs_is_ended_and_its_stacks_are_kept(
    stage: tuple[asyncio.Runner, House], undisturbed: list[Episode]
) -> None:
    runner, house = stage
    house.faults.clear()
    runner.run(house.episodes())
    actor = house.engines.process_ids[0]
    found = runner.run(house.episodes(house.kill(1, signal.SIGSTOP, after=0.5)))
    assert same(found, undisturbed)
    fault = next(fault for fault in house.faults if "sent no heartbeat for 30 s" in fault)
    # The engine was stopped and could not write; its actor was asked where it waits.
    assert str(stack_file(house.logs, actor)) in fault
    assert "Thread" in stack_file(house.logs, actor).read_text()


def test_an_engine_that_does_not_come_up_is_not_waited_for(stage: tuple[asyncio.Runner, House]) -> None:
    runner, house = stage
    settings = replace(house.settings, start_seconds=1.0)
    slow = EnginePool.start(settings, ray_options=[{"num_cpus": 1}])
    with pytest.raises(EngineError, match=r"engine 0 was not up after 1 s \(engine\.start_seconds\)"):
        runner.run(slow)


def test_damaged_weights_end_in_an_error_and_never_in_tokens(
    stage: tuple[asyncio.Runner, House], undisturbed: list[Episode], tmp_path: Path
) -> None:
    runner, house = stage
    damaged = tmp_path / "weights.safetensors"
    damaged.write_bytes(house.weights.read_bytes()[:-4])
    with pytest.raises(PublishError, match="version 2 not loaded"):
        runner.run(house.engines.publish(damaged, 2, file_checksum(house.weights)))
    # Whole ones bring it back.
    runner.run(house.publish(1))
    assert same(runner.run(house.episodes()), undisturbed)
