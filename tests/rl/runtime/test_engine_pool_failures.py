"""What goes wrong behind a fleet's back reaches whoever waits for it. Real engines: test_fleet."""

import asyncio
from pathlib import Path

import pytest

from data.errors import EngineError
from rl.runtime.engine_pool import EnginePool
from rollout.engines.vllm_settings import VllmSettings


@pytest.mark.parametrize("error", [EngineError("gone"), RuntimeError("nobody thought of this")])
def test_a_failed_replacement_ends_the_wait_for_an_engine(tmp_path: Path, error: Exception) -> None:
    async def scenario() -> None:
        settings = VllmSettings(model_dir=tmp_path, max_length=64)
        fleet = EnginePool(
            settings,
            tmp_path,
            places=[{"num_cpus": 1}],
            hang_seconds=60,
            start_seconds=60,
            logs=tmp_path,
            transfer=tmp_path,
        )

        async def fail() -> None:
            await asyncio.sleep(0)
            raise error

        waiting = asyncio.ensure_future(fleet._free_seat())
        await asyncio.sleep(0)
        fleet._keep(fail())
        with pytest.raises(type(error), match=str(error)):
            await asyncio.wait_for(waiting, 5)
        fleet.forget()

    asyncio.run(scenario())
