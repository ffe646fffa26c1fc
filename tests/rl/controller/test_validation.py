"""Validation beside the training: when it is due, and that it is over before anything that changes it."""

import asyncio

import pytest

from rl.config.stages import RlStage
from rl.controller.validation import Validation, is_due, is_known
from rl.tracking.metrics import MetricsWriter


def test_due_every_so_often_and_at_the_end() -> None:
    stage = RlStage(
        name="rl", kind="rl", steps=7, groups_per_step=2, samples_per_group=2, learning_rate=1e-3,
        validate_every=3,
    )  # fmt: skip
    assert [step for step in range(8) if is_due(stage, step)] == [0, 3, 6, 7]
    assert not any(is_due(stage.model_copy(update={"validate_every": 0}), step) for step in range(8))


def test_a_killed_run_knows_which_it_has(tmp_path) -> None:
    with MetricsWriter(tmp_path, "rl") as metrics:
        metrics.write(3, {"loss": 1.0})
        metrics.add({"validation/accuracy": 0.5})
        metrics.write(6, {"loss": 0.5})
        assert is_known(metrics.path, "rl", 3)
        assert not is_known(metrics.path, "rl", 6)
        assert not is_known(metrics.path, "other", 3)


def test_work_goes_on_beside_it_until_its_end_is_asked_for() -> None:
    async def scenario() -> list[str]:
        events: list[str] = []
        finished = asyncio.Event()

        async def measure() -> dict[str, float]:
            events.append("begun")
            await finished.wait()
            return {"validation/accuracy": 0.5}

        def found(measures: dict[str, float]) -> None:
            assert measures["validation/accuracy"] == 0.5 and measures["time/validation_s"] >= 0
            events.append("found")

        validation = Validation(measure, found)
        assert await validation.wait() < 0.1  # none at work
        validation.start()
        await asyncio.sleep(0)
        events.append("step")
        asyncio.get_running_loop().call_later(0.05, finished.set)
        assert await validation.wait() >= 0.04
        events.append("published")
        return events

    assert asyncio.run(scenario()) == ["begun", "step", "found", "published"]


def test_its_error_is_the_training_s() -> None:
    async def scenario() -> None:
        async def measure() -> dict[str, float]:
            raise RuntimeError("no engine")

        validation = Validation(measure, lambda measures: None)
        validation.start()
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="no engine"):
            await validation.wait()
        validation.start()
        await validation.cancel()

    asyncio.run(scenario())
