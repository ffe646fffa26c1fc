"""An engine that is split over two ranks: the same answers and publications, and no survivor of a death."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from engine_lab import TOLERANCE, House, make_model, prompt

from data.checksum import file_checksum
from data.errors import EngineError, PublishError
from rollout.engines.restarting import RestartingEngine
from rollout.engines.vllm_engine import VllmEngine
from rollout.engines.vllm_settings import VllmSettings

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A model of four heads on two ranks."""
    folder = tmp_path_factory.mktemp("models")
    models = {name: make_model(seed, num_heads=4) for seed, name in enumerate(("first", "second"))}
    for name, model in models.items():
        model.save_pretrained(folder / name)
    files = {name: folder / name / "model.safetensors" for name in models}
    settings = VllmSettings(
        model_dir=folder / "first", max_length=256, kv_cache_gb=0.1, max_live_calls=16, tensor_parallel=2
    )
    with asyncio.Runner() as runner:
        engine = runner.run(VllmEngine.start(settings))
        yield House(
            runner=runner, engine=engine, settings=settings, models=models, files=files, serving={0: "first"}
        )
        engine.shutdown()


def test_two_ranks_are_the_model_before_and_after_a_publication(split: House, tmp_path: Path) -> None:
    """Log-probabilities and greedy choices are those of a full forward by one process, also of a call in
    flight while weights change; a damaged file is refused by every rank and changes nothing.
    """
    core, *ranks = split.engine.process_ids
    assert len(ranks) == 2 and {psutil.Process(rank).ppid() for rank in ranks} == {core}

    def check() -> None:
        for request in (split.request(prompt(1, 40)), split.request(prompt(2, 9), temperature=0.0)):
            result = split.run(split.engine.generate(request))
            assert split.error(request, result) < TOLERANCE
            assert len(result.output) == 24

    check()

    async def in_flight() -> None:
        request = split.request(prompt(3, 9), max_tokens=200)
        call = asyncio.create_task(split.engine.generate(request))
        await asyncio.sleep(0.3)
        version = await split.publish("second")
        result = await call
        assert {span.version for span in result.versions} <= {0, version} and len(result.output) == 200
        assert split.error(request, result) < TOLERANCE

    split.run(in_flight())
    check()
    damaged = tmp_path / "damaged"
    damaged.write_bytes(split.files["first"].read_bytes()[:-1] + b"\x01")
    with pytest.raises(PublishError, match="checksum"):
        split.run(split.engine.publish(damaged, 9, file_checksum(split.files["first"])))
    check()
    assert split.run(split.engine.cache_usage()) == 0.0


def test_a_cancelled_call_returns_what_it_has(split: House) -> None:
    async def scenario() -> int:
        request = split.request(prompt(4, 9), max_tokens=240)
        call = asyncio.create_task(split.engine.generate(request))
        await split.sampled(3)
        split.engine.cancel([request.id])
        return len((await call).output)

    assert 3 <= split.run(scenario()) < 240


def test_the_death_of_a_rank_is_that_of_the_engine(split: House) -> None:
    """Calls in flight continue on a replacement, with the weights published last; nobody is left behind.

    Last in the file: it ends the engine that the others share.
    """

    async def scenario() -> None:
        first, started = split.engine, [split.engine]

        async def start() -> VllmEngine:
            if first.dead:
                started.append(await VllmEngine.start(split.settings))
            return started[-1]

        engine = RestartingEngine(start)
        await engine.start()
        path = split.files["second"]
        await engine.publish(path, 20, file_checksum(path))
        split.serving[20] = "second"
        call = asyncio.create_task(engine.generate(split.request(prompt(5, 9), max_tokens=200)))
        await asyncio.sleep(0.3)
        pids = first.process_ids
        os.kill(pids[-1], signal.SIGKILL)
        with pytest.raises(EngineError):
            await first.probe()
            await asyncio.sleep(5)
            await first.probe()
        request = split.request(prompt(5, 9))
        assert split.error(request, await engine.generate(request)) < TOLERANCE
        assert len((await call).output) == 200 and engine.deaths == 1
        assert not set(pids) & set(started[-1].process_ids)
        _, alive = psutil.wait_procs(
            [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=10
        )
        assert not alive
        engine.shutdown()

    split.run(scenario())
