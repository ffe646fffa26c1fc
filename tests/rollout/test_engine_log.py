"""The log of an engine's processes, and the cause of a failure that is read from it."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from engine_lab import make_model

from data.errors import EngineError
from data.stacks import LOGS
from rollout.engines.engine_log import EngineLog, root_cause
from rollout.engines.vllm_engine import VllmEngine
from rollout.engines.vllm_settings import VllmSettings

START = "(EngineCore pid=7) ERROR 11-30 02:24:10 [core.py:1510] "
LOG = f"""(EngineCore pid=7) INFO 11-30 02:24:09 [core.py:1] ValueError: only mentioned
{START}EngineCore failed to start.
{START}Traceback (most recent call last):
{START}    raise ValueError(
{START}ValueError: no room for one call
{START}
(EngineCore pid=7) Process EngineCore:
(EngineCore pid=7) Traceback (most recent call last):
(EngineCore pid=7) RuntimeError: a consequence
"""


def test_the_cause_is_the_first_exception_of_the_failure() -> None:
    assert root_cause(LOG) == "ValueError: no room for one call"
    assert root_cause("a\nvllm.errors.CacheError: full\n") == "vllm.errors.CacheError: full"


def test_without_an_exception_the_last_lines_are_quoted() -> None:
    assert root_cause("1\n2\n\n3\nSegmentation fault\n") == "2 | 3 | Segmentation fault"
    assert root_cause("") == "the log is empty"


def test_only_processes_started_inside_write_to_the_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "engine.log"
    path.write_text("ValueError: of an earlier engine\n")
    log = EngineLog(path)
    with log.capture():
        child = subprocess.Popen(
            [sys.executable, "-c", "input(); raise SystemError('of this one')"], stdin=subprocess.PIPE
        )
    print("here")
    child.communicate(b"\n")
    assert capfd.readouterr().out == "here\n"
    assert "SystemError: of this one" in path.read_text()
    assert log.cause() == f"\n  SystemError: of this one\n  log: {path}"
    assert EngineLog(None).cause() == ""


@pytest.mark.slow
@pytest.mark.usefixtures("no_leftovers")
def test_an_engine_that_refuses_to_start_says_why_and_where_its_log_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, logs = tmp_path / "model", tmp_path / "logs"
    logs.mkdir()
    make_model(0).save_pretrained(model)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    monkeypatch.setenv(LOGS, str(logs))
    settings = VllmSettings(model_dir=model, max_length=128, kv_cache_gb=0.05, max_live_calls=4)
    with pytest.raises(EngineError, match="SafetensorError") as caught:
        asyncio.run(VllmEngine.start(settings))
    (log,) = logs.glob("engine-*.log")
    assert f"log: {log}" in str(caught.value)
    assert "Traceback (most recent call last)" in log.read_text()
