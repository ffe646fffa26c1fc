"""One side of a run replaced by the time it took: the parts of it that need no Ray."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from run_lab import Made, write_run

from data.checksum import file_checksum
from data.errors import ConfigError, PublishError
from rl.simulation.recorded import read_run
from rl.simulation.simulated import LearnerTimes, SimulatedEngines, SimulatedLearner
from rl.storage.rollout_record import recorded_groups
from rollout.protocols import default_params
from rollout.runner import EpisodeSpec

STEPS = [
    Made(calls=1, tokens=10, rollout_s=0.02, wait_s=0.02, learner_s=0.04),
    Made(calls=2, tokens=10, rollout_s=0.06, wait_s=0.06, learner_s=0.2),
]
"""40 tokens in 0.04 s, 80 in 0.2 s; groups 0 and 1, then 2 and 3."""


def specs(group_index: int, samples: int = 2, problem: str = "q") -> list[EpisodeSpec]:
    return [
        EpisodeSpec(id=f"{group_index}/{sample}", problem_id=problem, prompt=(3,), temperature=1.0, seed="")
        for sample in range(samples)
    ]


NO_RANKS: Any = None


def test_learner_times(tmp_path: Path) -> None:
    times = LearnerTimes.of_run(write_run(tmp_path, STEPS))
    assert times.at(0, 40) == pytest.approx(0.04)
    assert times.at(1, 40) == pytest.approx(0.1)  # half of the tokens, half of the time
    assert times.at(2, 40) == pytest.approx(0.04)  # the run starts over
    with pytest.raises(ConfigError, match="no rl stage 'sft'"):
        LearnerTimes.of_run(tmp_path / "run", "sft")


def test_a_step_of_the_simulated_learner_only_takes_its_time(tmp_path: Path) -> None:
    run = write_run(tmp_path, STEPS)
    learner = SimulatedLearner([], NO_RANKS, sharded=False, hang_seconds=1.0, logs=tmp_path)
    learner.use(LearnerTimes.of_run(run))
    groups = recorded_groups(run / "stages" / "rl" / "record", 1)
    began = time.monotonic()
    metrics = asyncio.run(learner.step(1, groups))
    assert 0.2 <= time.monotonic() - began < 5
    assert metrics == {"simulated_s": pytest.approx(0.2)}


def test_the_simulated_fleet_tells_recorded_episodes_as_new_ones(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, STEPS))
    params = default_params("sequential")

    async def use() -> None:
        engines = SimulatedEngines(run)
        began = time.monotonic()
        episodes, reference = await engines.run_group(params, specs(2))
        assert 0.06 <= time.monotonic() - began < 5
        assert reference is episodes
        assert [episode.id for episode in episodes] == ["2/0", "2/1"]
        assert {episode.problem_id for episode in episodes} == {"q"}
        assert [len(call.output) for call in episodes[0].calls] == [10, 10]
        assert episodes[0].oldest_version == 0
        path = engines.new_file()
        path.write_bytes(b"weights")
        assert await engines.publish(path, 7, file_checksum(path)) == []
        # Group 5 is not in the record: group 1 of it, which has one call, a third sample of it too.
        episodes, _ = await engines.run_group(params, specs(5, samples=3))
        assert [episode.id for episode in episodes] == ["5/0", "5/1", "5/2"]
        assert [len(episode.calls) for episode in episodes] == [1, 1, 1]
        assert {span.version for call in episodes[0].calls for span in call.versions} == {7}
        second = engines.new_file()
        second.write_bytes(b"others")
        with pytest.raises(PublishError, match="version 8"):
            await engines.publish(second, 8, file_checksum(path))
        await engines.publish(second, 8, file_checksum(second))
        assert not path.exists() and second.exists()
        await engines.close()
        assert not second.parent.exists()

    asyncio.run(use())
