"""Reward workers that raise, hang and die, real ones: what they spoil is ungraded, and nothing else is."""

import asyncio
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from data.tasks.problem import Problem
from rewards.score import Score
from rl.runtime.ray_session import Runtime
from rl.runtime.reward_pool import RewardPool

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

PROBLEM = Problem(id="p", task="words", fields={})


class Verifier:
    """Episodes are words here: what to do with them."""

    def score_group(self, problem: Problem, episodes: list[str]) -> list[Score]:
        for episode in episodes:
            if episode == "raise":
                raise ValueError("cannot be read")
            if episode == "hang":
                time.sleep(1000)
            if episode == "die":
                os._exit(1)
            if episode == "slow":
                time.sleep(0.5)
        return [Score(value=float(len(episode))) for episode in episodes]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.getcwd()
    with Runtime(tmp_path_factory.mktemp("run")):
        yield
    os.chdir(before)


class Office:
    """A reward pool and the faults it reported."""

    def __init__(self, *, workers: int, seconds: float) -> None:
        self.told: list[str] = []
        self.pool = RewardPool(
            ray.remote(Verifier).options(num_cpus=0).remote,
            workers=workers,
            seconds=seconds,
            report=lambda kind, what: self.told.append(f"{kind}: {what}"),
        )

    async def open(self) -> None:
        """Until every worker has answered in time: one that is still starting may not."""
        while True:
            self.told.clear()
            scores = [score for word in ("a", "b") for score in await self.score(word)]
            if not self.told and None not in values(scores):
                return

    async def score(self, *episodes: str) -> list[Score]:
        found: Any = episodes
        return await self.pool.score(PROBLEM, found, ray.put(found))


def values(scores: list[Score]) -> list[float | None]:
    return [score.value for score in scores]


@pytest.mark.parametrize(
    ("bad", "reason", "told"),
    [
        ("raise", "raised ValueError('cannot be read')", "scoring of p raised ValueError"),
        ("hang", "no answer within 6 s", "a reward worker is replaced: no answer within 6 s"),
        ("die", "its process died", "a reward worker is replaced: its process died"),
    ],
)
def test_a_bad_episode_is_ungraded_and_spoils_no_other(
    session: None, bad: str, reason: str, told: str
) -> None:
    async def scenario() -> None:
        office = Office(workers=1, seconds=6.0)
        await office.open()
        scores = await office.score("good", bad, "better")
        assert values(scores) == [4.0, None, 6.0]
        assert scores[1].reason == reason
        assert any(told in line for line in office.told)
        assert values(await office.score("fine")) == [4.0]
        office.pool.close()

    asyncio.run(scenario())


def test_what_waits_for_a_worker_does_not_use_up_its_time(session: None) -> None:
    """Two dozen groups of half a second for two workers that have 5 s for each."""

    async def scenario() -> None:
        office = Office(workers=2, seconds=5.0)
        await office.open()
        began = time.monotonic()
        scores = await asyncio.gather(*(office.score("slow") for _ in range(24)))
        assert [values(group) for group in scores] == [[4.0]] * 24
        assert office.told == []
        assert time.monotonic() - began >= 6.0, "two at a time, half a second each"
        office.pool.close()

    asyncio.run(scenario())
