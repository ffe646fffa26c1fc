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

    def __init__(self, actors: Sequence[Any]) -> None:
        self._actors = actors

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
        return cls(actors)

    async def step(self, step: int, groups: Sequence[ScoredGroup]) -> dict[str, float]:
        """Train on one batch. -> its metrics."""
        metrics = await asyncio.gather(*(actor.step.remote(step, groups) for actor in self._actors))
        found: dict[str, float] = metrics[0]
        return found

    async def publish(self, path: Path) -> str:
        """Write the weights where engines read them. -> checksum of the file."""
        checksum: str = await self._actors[0].publish.remote(path)
        return checksum

    async def logprobs(self, context: Sequence[int], output: Sequence[int]) -> list[float]:
        """The canary's other half."""
        values: list[float] = await self._actors[0].logprobs.remote(context, output)
        return values

    async def save(self, directory: Path) -> None:
        """Model and optimizer into an existing folder."""
        await self._actors[0].save.remote(directory)

    async def load(self, directory: Path) -> None:
        """Inverse of save, on every rank."""
        await asyncio.gather(*(actor.load.remote(directory) for actor in self._actors))
