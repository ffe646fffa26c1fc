"""The learner's ranks as one: every rank gets the same groups, computes its share, and ends with the same
weights; rank 0 answers for all.
"""

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import ray
from ray.exceptions import RayActorError, RayTaskError

from data.errors import BraidError
from rl.controller.seams import Text
from rl.learner.collectives import Ranks
from rl.learner.settings import LearnerSettings
from rl.runtime.hung_processes import end_hung
from rl.runtime.rank_pool import RankPool, close_ranks
from rl.scored_group import ScoredGroup
from rl.storage.checkpoints import Checkpoint


class LearnerLost(BraidError, RuntimeError):
    """A rank of the learner died or hangs; the steps since the last checkpoint are lost."""


class LearnerGroup:
    """Handles of the actors, in order of rank. Every method raises LearnerLost."""

    def __init__(
        self, actors: Sequence[Any], pool: RankPool, *, sharded: bool, hang_seconds: float, logs: Path
    ) -> None:
        self._actors, self._pool = actors, pool
        self._holders = actors if sharded else actors[:1]
        """Ranks that take part when whole weights are needed: all under FSDP, else rank 0."""
        self._hang_seconds, self._logs = hang_seconds, logs
        self.process_ids: list[int] = []
        """Process ids of the ranks on this machine."""

    @classmethod
    async def start(cls, model_dir: Path, settings: LearnerSettings, pool: RankPool, logs: Path) -> Self:
        """Start `num_ranks` ranks; returns when they have joined their process group. `logs`: folder for the
        stacks of a rank that hangs.
        """
        stage = settings.stage
        world = stage.num_ranks
        actors = pool.acquire(world)
        ranks = cls(
            actors, pool, sharded=stage.sharding != "none", hang_seconds=stage.hang_seconds, logs=logs
        )
        try:
            (address,) = await ranks._all([actors[0].address.remote()])
            places = await ranks._all(
                actor.start.remote(model_dir, settings, Ranks(rank=rank, world=world), address)
                for rank, actor in enumerate(actors)
            )
        except BaseException:
            ranks.close()
            raise
        here = ray.get_runtime_context().get_node_id()
        ranks.process_ids = [process for process, node in places if node == here]
        return ranks

    async def step(self, step: int, groups: Sequence[ScoredGroup]) -> dict[str, float]:
        """Train on one batch. -> its metrics."""
        metrics: dict[str, float] = (await self._all(a.step.remote(step, groups) for a in self._actors))[0]
        return metrics

    async def publish(self, path: Path) -> str:
        """Write the weights where engines read them. -> checksum of the file."""
        return str((await self._all(actor.publish.remote(path) for actor in self._holders))[0])

    async def logprobs(self, texts: Sequence[Text], rounds: bool) -> list[list[float]]:
        """Log-probabilities of each text's output, for the canary."""
        asked = (actor.logprobs.remote(texts, rounds) for actor in self._holders)
        values: list[list[float]] = (await self._all(asked))[0]
        return values

    async def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Copy the learner's state and return; the copy is written during the next steps. Waits for the
        write before it. Raises StorageError when that one failed.
        """
        await self._all(actor.checkpoint.remote(checkpoint) for actor in self._holders)

    async def flush(self) -> None:
        """Returns when the last checkpoint is complete on disk. Raises StorageError when it failed."""
        await self._all(actor.flush.remote() for actor in self._holders)

    async def load(self, directory: Path) -> None:
        """Restore a checkpoint on every rank."""
        await self._all(actor.load.remote(directory) for actor in self._actors)

    def release(self) -> None:
        """Returns the processes to the pool after a stage that ended well."""
        self._pool.release(self._actors)

    def close(self) -> None:
        """Ends all ranks at once, without waiting."""
        close_ranks(self._actors)

    async def _all(self, calls: Iterable[Any]) -> list[Any]:
        answers = asyncio.gather(*calls)
        # Retrieve the exception: asyncio prints a traceback when an interruption ends the task.
        answers.add_done_callback(lambda future: future.cancelled() or future.exception())
        try:
            return await asyncio.wait_for(answers, self._hang_seconds)
        except RayActorError as error:
            reason = str(error).strip().splitlines()[0]
            raise LearnerLost(f"a rank of the learner died ({reason})") from error
        except RayTaskError as error:
            if isinstance(error.cause, BraidError):  # written for users; Ray's own text is a traceback
                raise error.cause from None
            raise
        except TimeoutError as error:
            stacks = await end_hung(self.process_ids, self._logs)
            raise LearnerLost(
                f"the learner gave no answer for {self._hang_seconds:g} s (rl stage's hang_seconds)\n{stacks}"
            ) from error
