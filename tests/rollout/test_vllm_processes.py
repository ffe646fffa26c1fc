"""The engine's processes: when one is killed, everyone learns of it at once and nothing is left behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from data.checksum import file_checksum
from data.errors import EngineError
from rollout.engines.base import EngineRequest
from rollout.engines.vllm_engine import VllmEngine
from rollout.engines.vllm_settings import VllmSettings

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_leftovers")]


def request(number: int) -> EngineRequest:
    return EngineRequest(
        id=f"call-{number}", prompt=(4, 5), stops=(), max_tokens=480, temperature=1.0, seed=number
    )


@pytest.fixture
def settings(tiny_model_dir: Path) -> VllmSettings:
    return VllmSettings(model_dir=tiny_model_dir, max_length=512, kv_cache_gb=0.1, max_live_calls=64)


async def all_fail(calls: list[Any], seconds: float) -> bool:
    results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), seconds)
    return all(isinstance(result, EngineError) for result in results)


def test_a_killed_core_fails_everything_at_once(settings: VllmSettings) -> None:
    async def scenario() -> None:
        engine = await VllmEngine.start(settings)
        (core,) = engine.process_ids
        path = settings.model_dir / "model.safetensors"
        calls = [asyncio.create_task(engine.generate(request(i))) for i in range(4)]
        await asyncio.sleep(0.2)
        os.kill(core, signal.SIGKILL)
        calls.append(asyncio.create_task(engine.publish(path, 1, file_checksum(path))))
        assert await all_fail(calls, 5)
        assert await all_fail([engine.generate(request(9))], 5)
        engine.cancel(["call-1"])
        engine.shutdown()
        engine.shutdown()

    asyncio.run(scenario())


@pytest.mark.parametrize("begun", [False, True])
def test_a_start_that_is_given_up_ends_at_once(settings: VllmSettings, begun: bool) -> None:
    """Before its core process exists, and while that loads the model."""

    async def scenario() -> float:
        starting = asyncio.create_task(VllmEngine.start(settings))
        while begun and not cores():
            await asyncio.sleep(0.05)
        await asyncio.sleep(1.0 if begun else 0.0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        return time.monotonic()

    def cores() -> list[int]:
        return [
            child.pid for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())
        ]

    given_up = asyncio.run(scenario())
    assert time.monotonic() - given_up < 10, "a start takes longer than its end"
    assert cores() == []


def test_shutdown_is_quick_fails_the_rest_and_leaves_no_process(settings: VllmSettings) -> None:
    async def scenario() -> None:
        engine = await VllmEngine.start(settings)
        (core,) = engine.process_ids
        calls = [asyncio.create_task(engine.generate(request(0)))]
        await asyncio.sleep(0.2)
        started = time.monotonic()
        engine.shutdown()
        assert time.monotonic() - started < 3  # 0.01 s on an idle machine
        assert await all_fail(calls, 5)
        assert not psutil.pid_exists(core)

    asyncio.run(scenario())


def test_the_core_dies_with_a_killed_parent(settings: VllmSettings, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(f"""
import asyncio, pathlib
from rollout.engines.vllm_engine import VllmEngine
from rollout.engines.vllm_settings import VllmSettings
async def main():
    model_dir = pathlib.Path({str(settings.model_dir)!r})
    engine = await VllmEngine.start(VllmSettings(model_dir=model_dir, max_length=128))
    print("core", *engine.process_ids, flush=True)
    await asyncio.sleep(600)
if __name__ == "__main__":
    asyncio.run(main())
""")
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    line = next(line for line in parent.stdout if line.startswith("core"))
    family = [psutil.Process(int(line.split()[1])), *psutil.Process(parent.pid).children(recursive=True)]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []
