"""The learner's ranks as one: every rank gets the same groups, computes its share, and ends with the same
weights; rank 0 speaks for all.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rl.batch import ScoredGroup
from rl.learner_settings import LearnerSettings
from rl.ranks import Ranks
from rl.workers import LearnerActor


class LearnerRanks:
    """Handles of the actors, in order of rank."""

    def __init__(self, actors: Sequence[Any], *, sharded: bool) -> None:
        self._actors = actors
        self._holders = actors if sharded else actors[:1]
        """Who has to take part when whole weights are needed."""

    @classmethod
    async def open(cls, model_dir: Path, settings: LearnerSettings) -> "LearnerRanks":
        """Starts as many as the stage says; returns when they have met."""
        world = settings.stage.num_ranks
        actors = [
            LearnerActor.options(num_cpus=1).remote(model_dir, settings, Ranks(rank=rank, world=world))
            for rank in range(world)
        ]
        address = await actors[0].address.remote()
        await asyncio.gather(*(actor.meet.remote(address) for actor in actors))
        return cls(actors, sharded=settings.stage.sharding != "none")

    async def step(self, step: int, groups: Sequence[ScoredGroup]) -> dict[str, float]:
        """Train on one batch. -> its metrics."""
        metrics = await asyncio.gather(*(actor.step.remote(step, groups) for actor in self._actors))
        found: dict[str, float] = metrics[0]
        return found

    async def publish(self, path: Path) -> str:
        """Write the weights where engines read them. -> checksum of the file."""
        checksums = await asyncio.gather(*(actor.publish.remote(path) for actor in self._holders))
        return str(checksums[0])

    async def logprobs(self, context: Sequence[int], output: Sequence[int]) -> list[float]:
        """The canary's other half."""
        asked = (actor.logprobs.remote(context, output) for actor in self._holders)
        values: list[float] = (await asyncio.gather(*asked))[0]
        return values

    async def save(self, directory: Path) -> None:
        """Model and optimizer into an existing folder."""
        await asyncio.gather(*(actor.save.remote(directory) for actor in self._holders))

    async def load(self, directory: Path) -> None:
        """Inverse of save, on every rank."""
        await asyncio.gather(*(actor.load.remote(directory) for actor in self._actors))
