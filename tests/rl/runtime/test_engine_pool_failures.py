"""A failed background task reaches every caller that waits. Real engines: test_engine_pool."""

import asyncio
from pathlib import Path

import pytest

from data.errors import EngineError
from rl.runtime.engine_pool import EnginePool
from rl.runtime.engine_slot import LaunchSettings
from rollout.engines.vllm_settings import VllmSettings


@pytest.mark.parametrize("error", [EngineError("gone"), RuntimeError("nobody thought of this")])
def test_a_failed_replacement_ends_the_wait_for_an_engine(tmp_path: Path, error: Exception) -> None:
    async def scenario() -> None:
        settings = LaunchSettings(
            engine=VllmSettings(model_dir=tmp_path, max_length=64), tokenizer_dir=tmp_path,
            start_seconds=60, hang_seconds=60, logs=tmp_path,
        )  # fmt: skip
        engines = EnginePool(settings, ray_options=[{"num_cpus": 1}], transfer=tmp_path)

        async def fail() -> None:
            await asyncio.sleep(0)
            raise error

        waiting = asyncio.ensure_future(engines._free_slot())
        await asyncio.sleep(0)
        engines._spawn(fail())
        with pytest.raises(type(error), match=str(error)):
            await asyncio.wait_for(waiting, 5)
        engines.abandon()

    asyncio.run(scenario())
